"""The socket: whom it lets in, and what it takes over."""

import socket
from pathlib import Path
from typing import Any

import pytest

from crid.errors import AlreadyExistsError, UnavailableError
from crid.server.listener import Listener


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "crid.sock"


def listener(path: Path) -> Listener:
    """A server that serves nothing."""
    nothing: Any = _Nothing()
    return Listener(str(path), nothing, nothing)


class _Nothing:
    def __getattr__(self, name: str) -> object:
        return lambda request, context: None


async def test_it_is_for_root_alone_and_goes_when_it_stops(path: Path) -> None:
    server = listener(path)
    await server.start()
    assert path.stat().st_mode & 0o777 == 0o660
    await server.stop(0)
    assert not path.exists()


async def test_a_dead_daemons_socket_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = listener(path)
    await server.start()
    await server.stop(0)


async def test_a_living_daemons_is_not(path: Path) -> None:
    first = listener(path)
    await first.start()
    with pytest.raises(AlreadyExistsError, match=str(path)):
        await listener(path).start()
    assert path.exists()
    await first.stop(0)


async def test_another_file_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(UnavailableError, match="not a socket"):
        await listener(path).start()
    assert path.read_text() == "precious"


async def test_a_path_beyond_the_kernels_limit(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot listen on"):
        await listener(tmp_path / ("x" * 120)).start()
