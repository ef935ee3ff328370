"""The streaming server's socket, the URLs it gives out, and the connections that are open.

An offer is good for one connection, for a minute. Connections are counted from their first byte on: beyond
MAX_CONNECTIONS a client is dropped before anything is read from it.
"""

import asyncio
import functools
import ipaddress
import logging
import ssl

from crid.config import ApiConfig, seconds
from crid.errors import InvalidArgumentError, UnavailableError
from crid.lifecycle.streams import AttachRequest, ExecRequest, PortForwardRequest, StreamRequest, StreamsLifecycle
from crid.log import fields
from crid.model.ids import short
from crid.oci.runtime import Streams
from crid.streaming.command import CommandWork
from crid.streaming.forward import ForwardWork
from crid.streaming.greeting import Greeting
from crid.streaming.tokens import Tokens
from crid.tasks import Supervisor
from crid.tls import ServerTls, TlsFiles
from crid.wire.session import CommandSession, ForwardSession

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 1000
"""Connections open at a time, greeted or not."""
DEFAULT_IDLE_TIMEOUT = 4 * 3600.0
"""Seconds, as in CRI-O."""
FAREWELL = 2.0
"""Seconds that clients and commands get when the server stops."""
BACKLOG = 128

KINDS: dict[type[StreamRequest], str] = {ExecRequest: "exec", AttachRequest: "attach", PortForwardRequest: "portforward"}
"""The first word of the URL's path for each kind of request."""

_TLS_VERSIONS = {"VersionTLS12": ssl.TLSVersion.TLSv1_2, "VersionTLS13": ssl.TLSVersion.TLSv1_3}


class StreamingServer:
    """Listens from `start` to `stop`."""

    def __init__(self, api: ApiConfig, streams: StreamsLifecycle) -> None:
        """Read the TLS files, if TLS is asked for. Raises InvalidArgumentError if they are no good."""
        self._address = api.stream_address
        self._port = int(api.stream_port)
        self._idle_timeout = seconds(api.stream_idle_timeout) if api.stream_idle_timeout else DEFAULT_IDLE_TIMEOUT
        self._tls = _tls(api)
        self._streams = streams
        self._tokens: Tokens[StreamRequest] = Tokens()
        self._supervisor = Supervisor("streaming")
        self._greetings: set[Greeting] = set()
        self._works: set[CommandWork | ForwardWork] = set()
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<StreamingServer {self._address}:{self._port} connections={len(self._greetings)}+{len(self._works)}>"

    @property
    def url(self) -> str:
        """The server's address as clients are told it; a wildcard address is named by the loopback one."""
        address = ipaddress.ip_address(self._address)
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{'https' if self._tls else 'http'}://{host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises UnavailableError if the address or the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, self._address, self._port, backlog=BACKLOG)
        except OSError as error:
            raise UnavailableError(
                f"streaming server: cannot listen on {self._address}:{self._port}: {error.strerror}"
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]
        logger.info("streaming on %s", self.url)

    async def stop(self) -> None:
        """Take no new clients, say farewell to those that are there, and end the commands behind them."""
        if self._server is not None:
            self._server.close()
        for greeting in tuple(self._greetings):
            greeting.drop()
        works = tuple(self._works)
        for work in works:
            work.link.abort("crid is stopping")
        if works:
            await asyncio.wait([work.link.closed for work in works], timeout=FAREWELL)
        for work in works:
            work.link.drop()
        await self._supervisor.close(FAREWELL)
        if self._server is not None:
            await self._server.wait_closed()

    def offer(self, request: StreamRequest) -> str:
        """Keep a checked request and return the URL at which it is served once. Raises ResourceExhaustedError."""
        return f"{self.url}/{KINDS[type(request)]}/{self._tokens.issue(request)}"

    def _accept(self) -> Greeting:
        crowded = len(self._greetings) + len(self._works) >= MAX_CONNECTIONS
        context = self._tls.context() if self._tls else None
        greeting = Greeting(self._redeem, self._begin, self._greetings.discard, self._supervisor, context, crowded=crowded)
        self._greetings.add(greeting)
        return greeting

    def _redeem(self, path: str) -> StreamRequest | None:
        """Return the request of a URL's path, None if there is none for it."""
        kind, _, token = path.removeprefix("/").partition("/")
        request = self._tokens.redeem(token)
        return request if request is not None and KINDS[type(request)] == kind else None

    def _begin(
        self,
        request: StreamRequest,
        session: CommandSession | ForwardSession,
        transport: asyncio.Transport,
        received: bytes,
    ) -> None:
        """Serve an upgraded connection."""
        work = self._work(request, session)
        self._works.add(work)
        work.link.closed.add_done_callback(lambda _: self._works.discard(work))
        logger.debug("a client is connected%s", fields(link=work.link))
        work.link.begin(transport, received)

    def _work(self, request: StreamRequest, session: CommandSession | ForwardSession) -> CommandWork | ForwardWork:
        if isinstance(request, PortForwardRequest):
            assert isinstance(session, ForwardSession)
            connect = functools.partial(self._streams.port_forward, request)
            name = f"port-forward {short(request.sandbox_id)}"
            return ForwardWork(session, connect, self._supervisor, idle_timeout=self._idle_timeout, name=name)
        assert isinstance(session, CommandSession)
        if isinstance(request, ExecRequest):
            run, name = functools.partial(self._streams.exec, request), f"exec {short(request.container_id)}"
        else:
            run, name = functools.partial(self._attach, request), f"attach {short(request.container_id)}"
        return CommandWork(session, request.wanted, run, self._supervisor, idle_timeout=self._idle_timeout, name=name)

    async def _attach(self, request: AttachRequest, streams: Streams) -> int:
        await self._streams.attach(request, streams)
        return 0


def _tls(api: ApiConfig) -> ServerTls | None:
    """Return what the configuration asks for, None without TLS. Raises InvalidArgumentError."""
    if not api.stream_enable_tls:
        return None
    if not (api.stream_tls_cert and api.stream_tls_key):
        raise InvalidArgumentError("crid.api.stream_enable_tls: needs stream_tls_cert and stream_tls_key")
    files = TlsFiles(api.stream_tls_cert, api.stream_tls_key, api.stream_tls_ca, _TLS_VERSIONS[api.tls_min_version])
    return ServerTls("the streaming server", "crid.api.stream_tls_*", files)
