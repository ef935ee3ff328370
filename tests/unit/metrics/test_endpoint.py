"""The HTTP server of the metrics, and clients that do not behave."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from crid.config import MetricsConfig
from crid.errors import AlreadyExistsError, InvalidArgumentError, UnavailableError
from crid.metrics import endpoint
from crid.metrics.endpoint import Endpoint
from tests.harness.tools import PATIENCE

CONFIG = MetricsConfig(enable_metrics=True, metrics_port=0)
TEXT = b"crid_pods 1.0\n" * 5000


async def render() -> tuple[str, bytes]:
    return "text/plain; version=0.0.4", TEXT


@pytest.fixture
async def port() -> AsyncIterator[int]:
    served = await Endpoint(CONFIG, render).start()
    assert served.address.startswith("http://127.0.0.1:")
    yield int(served.address.removesuffix("/metrics").rpartition(":")[2])
    await served.stop()


GOOD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def ask(port: int, request: bytes, *, end: bool = False) -> bytes:
    """Return everything that the server says until it hangs up; with `end` nothing more is said to it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if end:
        writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_the_text_comes_whole_and_the_connection_ends(port: int) -> None:
    head, _, body = (await ask(port, GOOD)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-type: text/plain; version=0.0.4" in head.lower()
    assert body == TEXT


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET /metrics?x=y", b"200"), (b"GET /", b"404"), (b"GET /metrics/x", b"404"), (b"POST /metrics", b"405")],
)
async def test_other_requests(port: int, request_line: bytes, status: bytes) -> None:
    answer = await ask(port, request_line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert answer.split()[1] == status


@pytest.mark.parametrize("nonsense", [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"G" * 20000, b""])
async def test_nonsense_is_hung_up_on(port: int, nonsense: bytes) -> None:
    assert await ask(port, nonsense, end=True) == b""
    assert b" 200 " in await ask(port, GOOD)


async def test_whoever_is_slow_is_hung_up_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PATIENCE", 0.2)
    assert await ask(port, b"GET /metrics HTTP/1.1\r\n") == b""


async def test_no_more_clients_than_there_are_places(port: int) -> None:
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(endpoint.CONNECTIONS)]
    assert await ask(port, GOOD) == b""
    for _, writer in waiting:
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while not await ask(port, GOOD):  # until a place is free again
            await asyncio.sleep(0.01)


async def test_a_socket(tmp_path: Path) -> None:
    """For root alone; one that a dead daemon left is replaced, and none stays behind."""
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    served = await Endpoint(replace(CONFIG, metrics_socket=str(path)), render).start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(GOOD)
    assert (await reader.read()).endswith(TEXT)
    writer.close()
    await served.stop()
    assert not path.exists()


async def test_a_socket_or_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path, file = tmp_path / "metrics.sock", tmp_path / "file"
    file.write_text("precious")
    first = await Endpoint(replace(CONFIG, metrics_socket=str(path)), render).start()
    with pytest.raises(AlreadyExistsError, match=str(path)):
        await Endpoint(replace(CONFIG, metrics_socket=str(path)), render).start()
    with pytest.raises(UnavailableError, match="not a socket"):
        await Endpoint(replace(CONFIG, metrics_socket=str(file)), render).start()
    assert path.is_socket()
    assert file.read_text() == "precious"
    path.unlink()  # by hand; and then somebody else comes
    second = await Endpoint(replace(CONFIG, metrics_socket=str(path)), render).start()
    await first.stop()
    assert path.is_socket()
    await second.stop()


async def test_a_port_that_is_taken_is_named(port: int) -> None:
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
        await Endpoint(replace(CONFIG, metrics_port=port), render).start()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"metrics_cert": "/c"}, "needs metrics_key"),
        ({"metrics_key": "/k"}, "needs metrics_key"),
        ({"metrics_cert": "/c", "metrics_key": "/k", "metrics_socket": "/s"}, "a socket has no TLS"),
        ({"metrics_cert": "/nowhere/c", "metrics_key": "/nowhere/k"}, "/nowhere/c"),
    ],
)
def test_files_of_tls_that_are_no_good(keys: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Endpoint(replace(CONFIG, **keys), render)  # type: ignore[arg-type]  # strings all of them
