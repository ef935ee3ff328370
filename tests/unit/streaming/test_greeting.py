"""Connections that never come to a request. What comes of one is in tests/integration/streaming/test_requests.py."""

import asyncio
import ssl

import pytest

from crid.lifecycle.streams import StreamRequest
from crid.streaming import greeting
from crid.streaming.greeting import Greeting
from crid.tasks import Supervisor
from crid.wire.session import CommandSession, ForwardSession
from tests.harness.tools import until


def never_begin(
    request: StreamRequest, session: CommandSession | ForwardSession, transport: asyncio.Transport, received: bytes
) -> None:
    raise AssertionError("nobody has a token")


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize(("tls", "said"), [(None, b""), (None, b"GET /"), (TLS, b""), (TLS, b"\x16\x03\x01")])
async def test_who_never_asks_is_hung_up_on_and_counts_no_longer(
    tls: ssl.SSLContext | None, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that is never given back would be one of the server's thousand."""
    monkeypatch.setattr(greeting, "GREETING_TIMEOUT", 0.1)
    there: set[Greeting] = set()
    supervisor = Supervisor("streaming")

    def accept() -> Greeting:
        accepted = Greeting(lambda path: None, never_begin, there.discard, supervisor, tls, crowded=False)
        there.add(accepted)
        return accepted

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(said)
        assert await reader.read() == b""
        await until(lambda: not there, "the connection to be forgotten")
        writer.close()
    await supervisor.close(0)
