import socket
from pathlib import Path

import pytest

from crid.linux.notify import VARIABLE, notify


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
