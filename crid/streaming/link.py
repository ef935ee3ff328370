"""One client's TCP or TLS connection once it speaks a streaming protocol: bytes between the socket and a wire session.

The session decides what is sent and whether more may be read; the link obeys. Rules:

- What a session queued is written at once. While the socket's buffer is above its mark nothing is read either, since
  each read may make the session answer.
- A session that holds too much input pauses reading. A client that hangs up then is seen late: its farewell lies behind
  bytes that nobody reads, or has not even left its machine. So the kernel is asked for the connection's state now and
  then, and a ping is sent, which the kernel of a client that is gone answers with a reset.
- A connection is closed in two steps: we shut down our half, and read and drop until the client has hung up or has had
  LINGER seconds for it. Closing a socket with unread input would make the kernel reset it and cut off our last words.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from crid.log import fields
from crid.wire.session import Session

logger = logging.getLogger(__name__)

Event = TypeVar("Event")

BUFFER = 256 * 1024
"""Bytes in the socket's buffer above which a writer waits."""
LINGER = 2.0
"""Seconds that a client has to take our last words and hang up."""
STALLED = 30.0
"""Seconds for which a client may take nothing of our last words before we give up."""
WATCH = 2.0
"""Seconds between looks at the clock and, while reading is paused, at the client."""
CLOSE_WAIT = 8
"""TCP_CLOSE_WAIT of Linux's net/tcp_states.h: the peer has sent its FIN."""


class Link(asyncio.Protocol, Generic[Event]):
    """Carries `session` over a transport that is handed over by `begin`. `handle` gets each event, in order."""

    def __init__(self, session: Session[Event], handle: Callable[[Event], None], *, idle_timeout: float, name: str) -> None:
        self._session = session
        self._handle = handle
        self._idle_timeout = idle_timeout
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._active = 0.0
        self._congested = False
        self._reading = True
        self._lingering = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._timer: asyncio.TimerHandle | None = None
        self.closed = asyncio.get_running_loop().create_future()
        """Done once the connection is gone."""

    def __repr__(self) -> str:
        state = "closed" if self.closed.done() else "lingering" if self._lingering else "open"
        return f"<Link {self._name} {state} reading={self._reading} congested={self._congested}>"

    def begin(self, transport: asyncio.Transport, received: bytes) -> None:
        """Take over `transport`, on which the upgrade's answer was written, and the bytes that came after the request."""
        self._transport = transport
        transport.set_write_buffer_limits(high=BUFFER)
        transport.set_protocol(self)
        self._touch()
        self._watch()
        self._dispatch(self._session.start())
        if received:
            self.data_received(received)

    def flush(self) -> None:
        """Write what the session queued, close the connection once it has nothing more to say, and read on if it may."""
        transport = self._transport
        if transport is None or self._lingering:
            return
        if data := self._session.data_to_send():
            self._touch()
            transport.write(data)
        if self._session.done:
            self._linger()
        else:
            self._read_or_pause()

    async def drained(self) -> None:
        """Return when the socket takes more. Raises ConnectionError once the client is gone, or is being left."""
        if self._congested:
            await self._drained.wait()
        if self._lingering:
            raise ConnectionResetError(f"{self._name}: the client is gone")

    def abort(self, reason: str) -> None:
        """Say farewell because of `reason`, and close."""
        self._session.abort(reason)
        self.flush()

    def drop(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Give the session what was read."""
        if not self._lingering:
            self._touch()
            self._dispatch(self._session.receive_data(data))

    def eof_received(self) -> bool:
        """The client sends no more: none of our protocols goes on after that."""
        self._gone()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the session, and wake whoever waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._lingering = True
        if not self.closed.done():
            self.closed.set_result(None)
        self._drained.set()
        self._gone()

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._congested = True
        self._drained.clear()
        self._read_or_pause()

    def resume_writing(self) -> None:
        """The socket's buffer has room."""
        self._congested = False
        self._drained.set()
        self._read_or_pause()

    def _gone(self) -> None:
        for event in self._session.receive_eof():
            self._handle(event)
        self.flush()

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            self._handle(event)
        self.flush()

    def _read_or_pause(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        wanted = self._lingering or not (self._congested or self._session.read_paused)
        if wanted and not self._reading:
            transport.resume_reading()
        elif self._reading and not wanted:
            transport.pause_reading()
        self._reading = wanted

    def _linger(self) -> None:
        """Shut down our half, and close soon."""
        transport = self._transport
        assert transport is not None
        self._lingering = True
        self._read_or_pause()
        if self._timer is not None:
            self._timer.cancel()
        if not transport.is_closing():
            if transport.can_write_eof():
                transport.write_eof()
            else:  # TLS: its own farewell is part of closing
                transport.close()
        self._await_farewell(transport, transport.get_write_buffer_size() + 1, 0)

    def _await_farewell(self, transport: asyncio.Transport, unsent: int, stalled: int) -> None:
        """Close once all has been sent for LINGER seconds, or nothing could be for STALLED of them."""
        left = transport.get_write_buffer_size()
        stalled = stalled + 1 if left == unsent else 0
        if stalled and (left == 0 or stalled * LINGER >= STALLED):
            transport.abort()
        else:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._await_farewell, transport, left, stalled)

    def _touch(self) -> None:
        self._active = asyncio.get_running_loop().time()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH, self._watch)
        if self._idle_timeout and loop.time() - self._active > self._idle_timeout:
            logger.info("closing an idle stream%s", fields(stream=self._name, idle_s=self._idle_timeout))
            self.abort("idle for too long")
        elif not self._reading and not self._lingering:
            self._probe()

    def _probe(self) -> None:
        """Find out whether a client that we do not read from is still there."""
        transport = self._transport
        assert transport is not None
        client: socket.socket | None = transport.get_extra_info("socket")
        if client is not None and client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT:
            self.drop()
        elif not transport.get_write_buffer_size():
            self._session.ping()
            transport.write(self._session.data_to_send())
