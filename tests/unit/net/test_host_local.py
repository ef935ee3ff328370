"""crid.net.host_local: which addresses are freed. The plugin itself is in tests/integration/net/test_cni.py."""

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from crid.net import cni_config, host_local
from tests.harness.tools import eventually

HELD = b"c0ffee\r\neth0"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    directory = tmp_path / "net"
    directory.mkdir()
    (directory / "lock").touch()
    (directory / "last_reserved_ip.0").write_bytes(b"")
    (directory / "10.0.0.2").write_bytes(HELD)
    return directory


def network(*ipams: dict[str, Any] | str) -> cni_config.NetworkList:
    plugins = [{"type": "bridge", "ipam": ipam} for ipam in ipams]
    return cni_config.parse(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}).encode(), "test")


def test_where_books_are() -> None:
    asked = network({"type": "host-local"}, {"type": "host-local", "dataDir": "/d"}, {"type": "dhcp"}, "nothing")
    assert host_local.books(asked) == {Path("/var/lib/cni/networks/net"), Path("/d/net")}
    assert host_local.books(network({"type": "host-local", "dataDir": 5})) == set()


def test_only_what_names_nobody_is_freed(book: Path) -> None:
    for name, content in (("10.0.0.3", b""), ("10.0.0.4", bytes(30)), ("fd00::5", b"\n")):
        (book / name).write_bytes(content)
    (book / "10.0.0.6").symlink_to(book / "10.0.0.3")
    os.mkfifo(book / "10.0.0.7")
    assert host_local.free_lost(book) == ["10.0.0.3", "10.0.0.4", "fd00::5"]
    assert sorted(path.name for path in book.iterdir()) == ["10.0.0.2", "10.0.0.6", "10.0.0.7", "last_reserved_ip.0", "lock"]
    assert host_local.free_lost(book) == []


def test_a_network_without_a_book_gets_none(tmp_path: Path) -> None:
    assert host_local.free_lost(tmp_path / "missing") == []
    assert not (tmp_path / "missing").exists()


def test_one_that_is_just_being_written_is_left_alone(book: Path) -> None:
    """The plugin holds the lock from a file's making to its end."""
    freed: list[list[str]] = []
    with (book / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (book / "10.0.0.3").touch()
        (book / "10.0.0.4").touch()
        looking = threading.Thread(target=lambda: freed.append(host_local.free_lost(book)))
        looking.start()
        eventually(lambda: _waits_for(book / "lock"), "it waits for the lock")
        (book / "10.0.0.3").write_bytes(HELD)
    looking.join(30)
    assert freed == [["10.0.0.4"]]
    assert (book / "10.0.0.3").read_bytes() == HELD


def test_a_lock_that_is_never_let_go(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_local, "LOCK_TIMEOUT", 0.05)
    (book / "10.0.0.3").touch()
    with (book / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"lock: held by somebody else for 0\.05 s"):
            host_local.free_lost(book)
    assert host_local.free_lost(book) == ["10.0.0.3"]


def _waits_for(lock: Path) -> bool:
    """Whether another descriptor of this process has the lock's file open."""
    return sum(os.path.realpath(link) == str(lock) for link in Path("/proc/self/fd").iterdir()) > 1
