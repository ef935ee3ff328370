"""The socket: whom it lets in, and what it takes over."""

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from crid.cri import api_pb2 as cri
from crid.cri.api_pb2_grpc import RuntimeServiceStub
from crid.errors import AlreadyExistsError, UnavailableError
from crid.server.listener import Listener
from tests.harness.tools import PATIENCE, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "crid.sock"


def listener(path: Path, runtime: Any = None) -> Listener:
    """A server that serves nothing, but what `runtime` does."""
    nothing: Any = _Nothing()
    return Listener(str(path), runtime or nothing, nothing, nothing)


class _Nothing:
    def __getattr__(self, name: str) -> object:
        return lambda request, context: None


class _Slow(_Nothing):
    """StopContainer that ends when `release` is set, or tells that its client is gone."""

    def __init__(self) -> None:
        self.begun = 0
        self.release = asyncio.Event()
        self.gone = asyncio.Event()

    async def StopContainer(self, request: cri.StopContainerRequest, context: object) -> cri.StopContainerResponse:
        self.begun += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise
        return cri.StopContainerResponse()


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


async def test_one_that_another_daemon_has_made_meanwhile_is_left_alone(path: Path) -> None:
    """The socket is free as soon as the stop begins, while calls have their time still."""
    slow = _Slow()
    server = listener(path, slow)
    await server.start()
    async with aio.insecure_channel(f"unix://{path}") as channel:
        stub: Any = RuntimeServiceStub(channel)
        call = stub.StopContainer(cri.StopContainerRequest())
        await until(lambda: slow.begun == 1, "it is served")
        stopping = asyncio.ensure_future(server.stop(PATIENCE))
        await until(lambda: not path.exists(), "the socket to be free")
        other = listener(path)
        await other.start()
        slow.release.set()
        await call
        await stopping
        assert path.exists()
        await other.stop(0)


async def test_another_file_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(UnavailableError, match="not a socket"):
        await listener(path).start()
    assert path.read_text() == "precious"


async def test_a_path_beyond_the_kernels_limit(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot listen on"):
        await listener(tmp_path / ("x" * 120)).start()


async def test_more_calls_than_it_serves_are_refused_and_the_others_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crid.server.listener.MAX_CALLS", 3)
    slow = _Slow()
    server = listener(path, slow)
    await server.start()
    async with aio.insecure_channel(f"unix://{path}") as channel:
        stub: Any = RuntimeServiceStub(channel)
        calls = [stub.StopContainer(cri.StopContainerRequest()) for _ in range(3)]
        await until(lambda: slow.begun == 3, "all are served")
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.StopContainer(cri.StopContainerRequest())
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        slow.release.set()
        await asyncio.gather(*calls)
    await server.stop(0)


STANDS_STILL = """
import sys, grpc
from crid.cri import api_pb2, api_pb2_grpc
stub = api_pb2_grpc.RuntimeServiceStub(grpc.insecure_channel("unix://" + sys.argv[1]))
stub.StopContainer(api_pb2.StopContainerRequest())
"""


async def test_a_client_that_takes_nothing_is_hung_up_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by a debugger, say: it has not gone, and does not even answer pings."""
    monkeypatch.setattr("crid.server.listener.KEEPALIVE_MS", 1000)
    monkeypatch.setattr("crid.server.listener.PING_TIMEOUT_MS", 1000)
    slow = _Slow()
    server = listener(path, slow)
    await server.start()
    client = subprocess.Popen([sys.executable, "-c", STANDS_STILL, str(path)], stderr=subprocess.DEVNULL)
    try:
        await until(lambda: slow.begun == 1, "it is served")
        client.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            await slow.gone.wait()
    finally:
        client.kill()
        client.wait()
    await server.stop(0)
