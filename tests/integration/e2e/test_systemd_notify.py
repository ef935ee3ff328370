"""What the daemon tells whoever started it, over a real notification socket, as systemd reads it."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.tools import PATIENCE

PATIENT = {"WATCHDOG_USEC": "200000"}


@pytest.fixture
def heard(tmp_path: Path) -> socket.socket:
    """A notification socket."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(f"{tmp_path}/notify")
    receiver.settimeout(PATIENCE)
    return receiver


def test_ready_alive_and_stopping(heard: socket.socket, tmp_path: Path) -> None:
    """READY once it serves, WATCHDOG as long as it does, STOPPING when it is told to end."""
    with heard, Daemon().prepared() as daemon:
        daemon.start({"NOTIFY_SOCKET": f"{tmp_path}/notify", **PATIENT})
        assert heard.recv(100) == b"READY=1"
        assert [heard.recv(100) for _ in range(5)] == [b"WATCHDOG=1"] * 5
        with ThreadPoolExecutor(1) as beside:  # the socket holds a second's words, and the daemon waits for nobody to read them
            stopping = beside.submit(daemon.stop)
            said = [b"WATCHDOG=1"]
            while said[-1] == b"WATCHDOG=1":
                said.append(heard.recv(100))
            assert said[-1] == b"STOPPING=1"
            stopping.result()


def test_nobody_watches_a_daemon_that_is_not_to_be_watched(heard: socket.socket, tmp_path: Path) -> None:
    with heard, Daemon().prepared() as daemon:
        daemon.start({"NOTIFY_SOCKET": f"{tmp_path}/notify", **PATIENT, "WATCHDOG_PID": "1"})
        daemon.stop()
        assert [heard.recv(100), heard.recv(100)] == [b"READY=1", b"STOPPING=1"]


def hear_on(heard: socket.socket) -> None:
    """Receive whatever comes, until nothing does."""
    while heard.recv(100):
        pass


def test_a_daemon_that_hangs_is_silent_and_says_where_when_it_is_ended(heard: socket.socket, tmp_path: Path) -> None:
    """systemd ends it with SIGABRT then (systemd.service(5), WatchdogSignal); the next one serves again."""
    with heard, Daemon().prepared() as daemon:
        daemon.start({"NOTIFY_SOCKET": f"{tmp_path}/notify", **PATIENT})
        assert heard.recv(100) == b"READY=1"
        os.kill(daemon.pid, signal.SIGSTOP)
        heard.settimeout(5 * int(PATIENT["WATCHDOG_USEC"]) / 1e6)
        with pytest.raises(TimeoutError):
            hear_on(heard)
        os.kill(daemon.pid, signal.SIGABRT)
        os.kill(daemon.pid, signal.SIGCONT)
        ended = daemon.wait_ended(PATIENCE)
        assert "Fatal Python error: Aborted" in daemon.log_text()
        # This one, which hangs by SIGSTOP, goes on while its stacks are read: that may cost it its life earlier.
        assert ended == -signal.SIGSEGV or (ended == -signal.SIGABRT and "in run_forever" in daemon.log_text())
        daemon.start()
        daemon.stop()
