"""Where the metrics are served: `GET /metrics` over HTTP/1.1, on a port or on a unix socket.

One request a connection, CONNECTIONS at a time, and each has PATIENCE seconds from its first byte to its last: whoever asks
slowly, or does not read, is hung up on, and costs no more than that.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import h11

from crid.config import MetricsConfig
from crid.errors import InvalidArgumentError, UnavailableError
from crid.linux.unix_socket import SocketFile, take_over
from crid.log import fields
from crid.tasks import Supervisor
from crid.tls import ServerTls, TlsFiles

logger = logging.getLogger(__name__)

CONNECTIONS = 16
PATIENCE = 10.0
_HEAD = 8192
"""Bytes of a request's head."""

Render = Callable[[], Awaitable[tuple[str, bytes]]]
"""Returns the content type and the text of the metrics."""


class Endpoint:
    """Listens from `start` to `stop`."""

    def __init__(self, config: MetricsConfig, render: Render) -> None:
        """Read the TLS files, if there are any. Raises InvalidArgumentError if they are no good."""
        self._config = config
        self._render = render
        self._tls = _tls(config)
        self._supervisor = Supervisor("metrics")
        self._server: asyncio.Server | None = None
        self._file: SocketFile | None = None
        self._connected = 0

    def __repr__(self) -> str:
        return f"<Endpoint {self.address} connections={self._connected}>"

    @property
    def address(self) -> str:
        """Where it listens, as a URL or a path."""
        config = self._config
        if config.metrics_socket:
            return config.metrics_socket
        host = f"[{config.metrics_host}]" if ":" in config.metrics_host else config.metrics_host
        port = self._server.sockets[0].getsockname()[1] if self._server and self._server.sockets else config.metrics_port
        return f"{'https' if self._tls else 'http'}://{host}:{port}/metrics"

    async def start(self) -> Self:
        """Listen. Raises UnavailableError if the address, the port or the socket cannot be had; as `take_over`."""
        config = self._config
        try:
            if config.metrics_socket:
                await asyncio.to_thread(take_over, Path(config.metrics_socket))
                previous = os.umask(0o117)
                try:
                    self._server = await asyncio.start_unix_server(self._accept, config.metrics_socket)
                finally:
                    os.umask(previous)
                self._file = SocketFile(Path(config.metrics_socket))
            else:
                self._server = await asyncio.start_server(self._accept, config.metrics_host, config.metrics_port)
        except OSError as error:
            raise UnavailableError(f"crid.metrics: cannot listen on {self.address}: {error.strerror}") from error
        logger.info("metrics on %s", self.address)
        return self

    async def stop(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._file is not None:
            self._file.remove()
        await self._supervisor.close(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connected >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connected += 1
        self._supervisor.start_logged(self._serve(reader, writer), "metrics")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                if self._tls is not None:
                    await writer.start_tls(self._tls.context())
                http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD)
                status, kind, body = await self._answer(await _request(http, reader))
                headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Connection", "close")]
                writer.write(http.send(h11.Response(status_code=status, headers=headers)) or b"")
                writer.write(http.send(h11.Data(data=body)) or b"")
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            logger.debug("a client of the metrics is gone%s", fields(why=repr(error)))
        finally:
            self._connected -= 1
            writer.transport.abort()

    async def _answer(self, request: h11.Request) -> tuple[int, str, bytes]:
        """Return the status, the content type and the body."""
        if request.target.partition(b"?")[0] != b"/metrics":
            return 404, "text/plain", b"the metrics are at /metrics\n"
        if request.method != b"GET":
            return 405, "text/plain", b"only GET\n"
        return 200, *await self._render()


def _tls(config: MetricsConfig) -> ServerTls | None:
    if not (config.metrics_cert or config.metrics_key):
        return None
    if not (config.metrics_cert and config.metrics_key):
        raise InvalidArgumentError("crid.metrics.metrics_cert: needs metrics_key, and the other way round")
    if config.metrics_socket:
        raise InvalidArgumentError("crid.metrics.metrics_cert: a socket has no TLS; leave metrics_socket empty")
    files = TlsFiles(config.metrics_cert, config.metrics_key)
    return ServerTls("the metrics' server", "crid.metrics.metrics_cert", files)


async def _request(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    """Return the request. Raises ConnectionResetError if the client leaves before it is whole, h11.ProtocolError."""
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise ConnectionResetError("no request")
        http.receive_data(await reader.read(_HEAD))
