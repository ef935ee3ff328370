"""What crid asks, replaced by something that takes the question and hangs: each is given up at its deadline, by name, and no
process of it is left."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from crid.cgroup import systemd
from crid.errors import UnavailableError
from crid.image import auth_files
from crid.linux import apparmor
from crid.net import table

SOON = 0.3
"""Seconds: the deadline for these tests, long enough for a program to be started as a rule."""

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
    path, nap = tmp_path / program, f"{10**6 + os.getpid()}"
    path.write_text(f"#!/bin/sh\nexec sleep {nap}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(module, constant, SOON)
    with pytest.raises(UnavailableError, match=rf"{program}.*( did not .*within 0|not done in time)"):
        await ask()
    commands = [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if nap.encode() in _read(entry)]
    assert commands == []


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
