"""One plugin's socket: calls to the plugin, and calls from it, side by side.

The plugin is not trusted to answer, to read, or to make sense. Whatever breaks a rule, and the end of the socket, ends the
connection and fails the calls that wait; the daemon goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from crid.cri import ttrpc_pb2
from crid.errors import CridError, DeadlineExceededError, UnavailableError
from crid.log import fields
from crid.tasks import Supervisor
from crid.wire import nri_mux, ttrpc
from crid.wire.protocol import RemoteProtocolError

logger = logging.getLogger(__name__)

READ_SIZE = 65536
MAX_SERVED = 16
"""Calls of one plugin that are worked on at a time."""
MAX_UNREAD = 1 << 20
"""Bytes that may wait for a plugin to read them when another answer is to be sent."""
LINGER = 2.0
"""Seconds that a plugin has to read what was sent before the end."""

M = TypeVar("M", bound=Message)
Serve = Callable[[str, str, bytes], Awaitable[Message]]
"""Answers one call: service, method, request. What it raises is the call's error; its message reaches the plugin."""


class RefusalError(CridError):
    """The other side answered with an error; the connection is as good as before."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """`outgoing` and `incoming` are the multiplexed connections: PLUGIN and RUNTIME for crid, the reverse for a plugin."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        supervisor: Supervisor,
        serve: Serve,
        *,
        outgoing: int = nri_mux.PLUGIN,
        incoming: int = nri_mux.RUNTIME,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._supervisor = supervisor
        self._serve = serve
        self._outgoing = outgoing
        self._incoming = incoming
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next_stream = 1
        self._served = 0

    def __repr__(self) -> str:
        return f"<Connection waiting={len(self._waiting)} served={self._served} closed={self.closed}>"

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._writer.is_closing()

    async def run(self) -> None:
        """Read until the other side goes, or breaks a rule; then close. Raises nothing but cancellation."""
        mux = nri_mux.MuxReader()
        frames = {self._outgoing: ttrpc.FrameReader(), self._incoming: ttrpc.FrameReader()}
        try:
            while data := await self._reader.read(READ_SIZE):
                for connection, payload in mux.feed(data):
                    if connection in frames:  # others are reserved, and passed over
                        for frame in frames[connection].feed(payload):
                            self._on_frame(connection, frame)
        except (OSError, RemoteProtocolError) as error:
            logger.warning("an NRI connection broke%s", fields(why=error))
        finally:
            self.close()

    def close(self) -> None:
        """Hang up, and fail every call that waits. Idempotent. What is not read soon is thrown away with the socket."""
        if not self.closed:
            self._writer.close()
            asyncio.get_running_loop().call_later(LINGER, self._writer.transport.abort)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(UnavailableError("the connection is closed"))
        self._waiting.clear()

    async def call(self, service: str, method: str, request: Message, answer: type[M], timeout: float) -> M:
        """Call the other side and return its answer.

        Raises RefusalError if it answers with an error, DeadlineExceededError after `timeout` seconds, UnavailableError if
        the connection ends or the answer makes no sense, ValueError if the request is too long.
        """
        if self.closed:
            raise UnavailableError(f"{method}: the connection is closed")
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        call = ttrpc_pb2.Request(
            service=service, method=method, payload=request.SerializeToString(), timeout_nano=int(timeout * 1e9)
        )
        waiting = asyncio.get_running_loop().create_future()
        frame = ttrpc.encode(ttrpc.Frame(stream, ttrpc.REQUEST, call.SerializeToString()))
        self._waiting[stream] = waiting
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(nri_mux.encode(self._outgoing, frame))
                await self._writer.drain()
                data = await waiting
            response = ttrpc_pb2.Response.FromString(data)
            if response.status.code:
                raise RefusalError(response.status.code, response.status.message)
            return answer.FromString(response.payload)
        except TimeoutError as error:
            raise DeadlineExceededError(f"{method}: no answer within {timeout:g} s") from error
        except (OSError, DecodeError) as error:
            raise UnavailableError(f"{method}: {error}") from error
        finally:
            self._waiting.pop(stream, None)

    def _on_frame(self, connection: int, frame: ttrpc.Frame) -> None:
        if connection == self._outgoing and frame.kind == ttrpc.RESPONSE:
            waiting = self._waiting.get(frame.stream)
            if waiting is not None and not waiting.done():  # else its caller has given up
                waiting.set_result(frame.data)
        elif connection == self._incoming and frame.kind == ttrpc.REQUEST:
            if self._served >= MAX_SERVED:
                self._answer(frame.stream, ttrpc.RESOURCE_EXHAUSTED, "too many calls at a time")
                return
            self._served += 1
            self._supervisor.start_logged(self._on_request(frame), "call of an NRI plugin")

    async def _on_request(self, frame: ttrpc.Frame) -> None:
        try:
            request = ttrpc_pb2.Request.FromString(frame.data)
            answer = await self._serve(request.service, request.method, request.payload)
        except RefusalError as error:
            self._answer(frame.stream, error.code, str(error))
        except (DecodeError, ValueError) as error:
            self._answer(frame.stream, ttrpc.INVALID_ARGUMENT, str(error))
        except CridError as error:
            self._answer(frame.stream, ttrpc.UNKNOWN, str(error))
        else:
            self._answer(frame.stream, ttrpc.OK, payload=answer.SerializeToString())
        finally:
            self._served -= 1

    def _answer(self, stream: int, code: int, message: str = "", payload: bytes = b"") -> None:
        response = ttrpc_pb2.Response(payload=payload)
        if code:
            response.status.code, response.status.message = code, message
        if self.closed:
            return
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            logger.warning("an NRI connection is closed%s", fields(why="the plugin asks, and does not read the answers"))
            self.close()
            return
        frame = ttrpc.encode(ttrpc.Frame(stream, ttrpc.RESPONSE, response.SerializeToString()))
        self._writer.write(nri_mux.encode(self._incoming, frame))
