import asyncio
import os
import socket
from pathlib import Path

import pytest

from crid.linux.notify import VARIABLE, WATCHDOG, WATCHDOG_OF, feed_watchdog, notify, watchdog_patience


@pytest.mark.parametrize("abstract", [False, True])
def test_the_init_system_hears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool) -> None:
    path = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + path[1:] if abstract else path)
        monkeypatch.setenv(VARIABLE, f"@{path[1:]}" if abstract else path)
        assert notify("READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_nobody_there_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not notify("READY=1")
    assert caplog.text == ""
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/nobody")
    assert not notify("READY=1")
    assert "the init system cannot be told" in caplog.text


@pytest.mark.parametrize(
    ("variables", "patience"),
    [
        ({}, 0),
        ({WATCHDOG: "30000000"}, 30),
        ({WATCHDOG: "1500000", WATCHDOG_OF: str(os.getpid())}, 1.5),
        ({WATCHDOG: "1500000", WATCHDOG_OF: "1"}, 0),
        ({WATCHDOG: "soon"}, 0),
        ({WATCHDOG: "-3"}, 0),
    ],
    ids=["none", "for whoever reads it", "ours", "another's", "no number", "negative"],
)
def test_the_watchdogs_patience(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], patience: float) -> None:
    for name in (WATCHDOG, WATCHDOG_OF):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert watchdog_patience() == patience


async def test_the_watchdog_is_fed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"{tmp_path}/notify")
        receiver.setblocking(False)
        monkeypatch.setenv(VARIABLE, f"{tmp_path}/notify")
        feeding = asyncio.create_task(feed_watchdog(0.02))
        for _ in range(3):
            assert await asyncio.get_running_loop().sock_recv(receiver, 100) == b"WATCHDOG=1"
        feeding.cancel()


async def test_an_init_system_that_does_not_read_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A datagram socket's queue has an end (net.unix.max_dgram_qlen), where a sender would wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"{tmp_path}/notify")
        monkeypatch.setenv(VARIABLE, f"{tmp_path}/notify")
        most = 1 + int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 1
        told = [notify("WATCHDOG=1") for _ in range(most + 1)]
    assert told[0]
    assert not told[-1]
    assert "the init system cannot be told" in caplog.text
