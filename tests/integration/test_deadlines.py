"""What crid asks, replaced by something that takes the question and hangs: each is given up at its deadline, by name, and no
process of it is left."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from crid.cgroup import systemd
from crid.errors import DeadlineExceededError, UnavailableError
from crid.image import auth_files
from crid.linux import apparmor
from crid.net import conntrack, table
from crid.oci import port_forward, probe
from crid.oci.program import RuntimeCommand, RuntimeProgram
from crid.tuning import irqbalance
from crid.tuning.files import HostFiles
from tests.harness.procfs import naming

SOON = 0.3
"""Seconds: the deadline for these tests, long enough for a program to be started as a rule."""

NAP = f"{10**6 + os.getpid()}"
"""Seconds, by which the programs of this run are told from others."""

Ask = Callable[[], Coroutine[Any, Any, object]]


@pytest.mark.parametrize(
    ("program", "module", "constant", "ask"),
    [
        ("nft", table, "_TIMEOUT", lambda: table.listed_ports("cridt0")),
        (apparmor.PARSER, apparmor, "LOAD_TIMEOUT", lambda: apparmor.load("profile x {}")),
        ("docker-credential-x", auth_files, "HELPER_SECONDS", lambda: auth_files.ask_helper("x", "q.io")),
    ],
    ids=["nft", "apparmor_parser", "a credential helper"],
)
async def test_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, module: object, constant: str, ask: Ask
) -> None:
    hang(tmp_path / program)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(module, constant, SOON)
    with pytest.raises(UnavailableError, match=rf"{program}.*( did not .*within 0|not done in time)"):
        await ask()
    assert naming(NAP) == []


async def test_an_oci_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a verb, and when it is tried at the daemon's start."""
    program = RuntimeProgram("crun", tmp_path / "crun", tmp_path, tmp_path / "conmon")
    hang(program.path)
    with pytest.raises(DeadlineExceededError, match=r"crun start did not end within 0\.3 s"):
        await RuntimeCommand(program, {}).check("c" * 64, "start", timeout=SOON)
    monkeypatch.setattr(probe, "TIMEOUT", SOON)
    with pytest.raises(DeadlineExceededError, match=r"crun --version did not end within 0\.3 s"):
        await probe.features(program)
    assert naming(NAP) == []


async def test_irqbalance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A container is worth starting without: that is only said."""
    hang(tmp_path / "systemctl")
    hang(tmp_path / "irqbalance")
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/irqbalance").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(irqbalance, "TIMEOUT", SOON)
    await irqbalance.Irqbalance(HostFiles(tmp_path)).apply()
    assert "irqbalance --oneshot failed" in caplog.text
    assert naming(NAP) == []


def test_ctnetlink(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, silent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(conntrack, "_TIMEOUT", SOON)
    with silent:
        with monkeypatch.context() as kernel:
            kernel.setattr(socket, "socket", lambda *_: ours)
            with pytest.raises(TimeoutError):
                conntrack.forget_udp([(None, 53)])
        assert silent.recv(1024)


async def test_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus takes the connection, and what is written to it, and says nothing."""
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        writer.close()
        gone.set()

    server = await asyncio.start_unix_server(listen, tmp_path / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    monkeypatch.setattr(systemd, "TIMEOUT", SOON)
    async with server:
        with pytest.raises(UnavailableError, match=r"x\.scope: systemd did not answer within 0\.3 s"):
            await systemd.Systemd().stop("x.scope")
        async with asyncio.timeout(30):
            await gone.wait()


async def test_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program takes no connection any more, once as many wait as the kernel lets wait."""
    monkeypatch.setattr(port_forward, "CONNECT_TIMEOUT", SOON)
    with contextlib.ExitStack() as waiting:
        server = waiting.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))

        async def crowd() -> None:
            while True:
                waiting.enter_context(await port_forward._connect("", server.getsockname()[1]))

        with pytest.raises(DeadlineExceededError, match=r"127\.0\.0\.1 did not answer within 0\.3 s"):
            await crowd()


def hang(program: Path) -> None:
    """Make a program that does nothing, for long."""
    program.write_text(f"#!/bin/sh\nexec sleep {NAP}\n")
    program.chmod(0o755)
