"""Whose socket it is that lies at a path."""

import os
import socket
from pathlib import Path

import pytest

from crid.errors import AlreadyExistsError, UnavailableError
from crid.linux.unix_socket import SocketFile, take_over


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.sock"


def bound(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    return made


def test_nothing_there(path: Path) -> None:
    take_over(path)
    assert not path.exists()


def test_what_a_dead_server_left_is_removed(path: Path) -> None:
    bound(path).close()
    take_over(path)
    assert not path.exists()


def test_a_living_server_keeps_its_own(path: Path) -> None:
    with bound(path) as server:
        server.listen()
        with pytest.raises(AlreadyExistsError, match=str(path)):
            take_over(path)
    assert path.exists()


def test_so_does_one_that_takes_no_connections(path: Path) -> None:
    with bound(path) as server, socket.socket(socket.AF_UNIX) as waiting:
        server.listen(0)
        waiting.connect(str(path))
        with pytest.raises(AlreadyExistsError, match=str(path)):
            take_over(path)
    assert path.exists()


def test_what_is_no_socket_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(UnavailableError, match="not a socket"):
        take_over(path)
    assert path.read_text() == "precious"


def test_only_ones_own_is_removed(path: Path) -> None:
    with bound(path):
        own = SocketFile(path)
    path.unlink()
    own.remove()
    with bound(path):
        os.utime(path, ns=(1, 1))  # the number of its inode may be that of the first
        own.remove()
        assert path.exists()
        SocketFile(path).remove()
    assert not path.exists()
