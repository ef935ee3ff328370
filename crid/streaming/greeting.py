"""The one HTTP request that a client's connection begins with: whom it is for, and which protocol comes after it.

The token is looked at first. Who has none that is good gets 404 whatever else is wrong, and learns nothing, not even
whether there is such a container. A good token is used up by the first request that bears it, however that goes on.

Everything before the upgrade is bounded: the request's head in size, the whole in time.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from crid.lifecycle.streams import PortForwardRequest, StreamRequest
from crid.log import fields
from crid.tasks import Supervisor
from crid.wire import portforward, remotecommand
from crid.wire.protocol import RemoteProtocolError
from crid.wire.remotecommand import Transport
from crid.wire.session import CommandSession, ForwardSession, Streams
from crid.wire.upgrade import HttpUpgrade, UpgradeRequest

logger = logging.getLogger(__name__)

GREETING_TIMEOUT = 10.0
"""Seconds that a client has for the TLS handshake and its request."""

Redeem = Callable[[str], StreamRequest | None]
Begin = Callable[[StreamRequest, CommandSession | ForwardSession, asyncio.Transport, bytes], None]


class Greeting(asyncio.Protocol):
    """One connection from its first byte to the upgrade, or to the refusal. `left` is told when either has happened."""

    def __init__(
        self,
        redeem: Redeem,
        begin: Begin,
        left: Callable[["Greeting"], None],
        supervisor: Supervisor,
        tls: ssl.SSLContext | None,
        *,
        crowded: bool,
    ) -> None:
        self._redeem = redeem
        self._begin = begin
        self._left = left
        self._supervisor = supervisor
        self._tls = tls
        self._crowded = crowded
        self._http = HttpUpgrade()
        self._answered = False
        self._early: bytes | None = b"" if tls else None
        """What came with the last bytes of the TLS handshake, before `start_tls` has returned; None once it has."""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def drop(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._crowded:
            logger.warning("too many clients of the streaming server: one is turned away")
            transport.abort()
            return
        client: socket.socket = transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        self._timer = asyncio.get_running_loop().call_later(GREETING_TIMEOUT, transport.abort)
        if self._tls is not None:
            # The transport begins to read right after this callback, whatever it is told in it (CPython before 3.12); the
            # next callback still comes before the first read.
            asyncio.get_running_loop().call_soon(self._begin_tls, transport, self._tls)

    def _begin_tls(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        transport.pause_reading()
        self._supervisor.start_logged(self._encrypt(transport, context), "TLS handshake")

    async def _encrypt(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            encrypted = await asyncio.get_running_loop().start_tls(transport, self, context, server_side=True)
        except OSError as error:  # the client's fault, or it went away
            logger.debug("no TLS with a client%s", fields(error=error))
            transport.abort()
            encrypted = None
        if encrypted is None:  # the connection's end within the handshake is no error to asyncio, if it is we who end it
            self._leave()  # nobody tells us of the end of a connection that never was
            return
        self._transport = encrypted
        early, self._early = self._early, None
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Answer once the request is there."""
        if self._answered:
            return
        if self._early is not None:
            self._early += data
            return
        try:
            asked = self._http.receive_data(data)
        except RemoteProtocolError as error:
            self._refuse(error.code, str(error))
            return
        if asked is not None:
            self._answer(asked)

    def connection_lost(self, error: Exception | None) -> None:
        """The client left before it was served, or was refused."""
        self._leave()

    def _answer(self, asked: UpgradeRequest) -> None:
        request = self._redeem(urlsplit(asked.target).path)
        if request is None:
            self._refuse(404, "not found")
        elif asked.method not in ("GET", "POST"):
            self._refuse(405, "a stream is asked for with GET or POST")
        elif asked.transport is None:
            self._refuse(400, "the request must be upgraded to SPDY/3.1 or websocket")
        else:
            of_kind = portforward if isinstance(request, PortForwardRequest) else remotecommand
            protocol = of_kind.negotiate(asked.offered, asked.transport)
            spoken = of_kind.PROTOCOLS[asked.transport]
            if protocol is None:
                self._refuse(403, f"no protocol in common; spoken are {', '.join(filter(None, spoken))}", spoken)
            else:
                self._upgrade(request, asked.transport, protocol)

    def _upgrade(self, request: StreamRequest, transport: Transport, protocol: str) -> None:
        try:
            session = _session(request, transport, protocol)
        except ValueError as error:  # the old port-forward, which needs ports in the RPC's request
            self._refuse(400, str(error))
            return
        connection = self._transport
        assert connection is not None
        answer, received = self._http.accept(protocol)
        self._answered = True
        connection.write(answer)
        self._leave()
        self._begin(request, session, connection, received)

    def _refuse(self, status: int, reason: str, spoken: tuple[str, ...] = ()) -> None:
        """Answer with an error, which says nothing of the container, and close."""
        assert self._transport is not None
        self._answered = True
        self._transport.write(self._http.reject(status, reason, supported=spoken))
        self._transport.close()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._left(self)


def _session(request: StreamRequest, transport: Transport, protocol: str) -> CommandSession | ForwardSession:
    if isinstance(request, PortForwardRequest):
        return portforward.forward_session(protocol, transport, request.ports)
    wanted = request.wanted
    streams = Streams(stdin=wanted.stdin, stdout=wanted.stdout, stderr=wanted.stderr, tty=wanted.tty)
    return remotecommand.command_session(protocol, transport, streams)
