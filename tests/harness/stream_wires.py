"""The two protocols of the streaming server in the client's role, over plain blocking sockets that are pumped by hand."""

import base64
import contextlib
import os
import select
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import h11

from crid.wire.spdy import Limits, Role, SpdyConnection, events
from crid.wire.websocket import Closed, MessagePiece, WebSocket
from tests.harness.tools import PATIENCE

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to the request for an upgrade."""

    status: int
    headers: dict[str, str]
    body: bytes


class Refused(Exception):  # noqa: N818  # it is an answer
    """The server did not upgrade."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body!r}")
        self.answer = answer


def connect(url: str, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Open a connection to the server of `url`."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(connection, server_hostname=parts.hostname) if tls else connection


def upgrade(
    url: str, headers: Iterable[tuple[str, str]], *, method: str = "POST", tls: ssl.SSLContext | None = None
) -> tuple[socket.socket, Answer, bytes]:
    """Ask for an upgrade; return the connection, the answer, and what came after it. Raises Refused."""
    parts = urlsplit(url)
    connection = connect(url, tls)
    http = h11.Connection(h11.CLIENT)
    everything = [("Host", parts.netloc), ("Connection", "Upgrade"), *headers]
    request = h11.Request(method=method, target=parts.path, headers=everything)
    connection.sendall((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    answer: h11.Response | h11.InformationalResponse | None = None
    body = b""
    while True:
        match http.next_event():
            case h11.InformationalResponse() as response:
                return connection, _answer(response, b""), bytes(http.trailing_data[0])
            case h11.Response() as response:
                answer = response
            case h11.Data(data=data):
                body += bytes(data)
            case h11.EndOfMessage() | h11.ConnectionClosed():
                connection.close()
                assert answer is not None
                raise Refused(_answer(answer, body))
            case _:
                data = connection.recv(CHUNK)
                if not data and answer is None:
                    connection.close()
                    raise ConnectionAbortedError("the server closed the connection without an answer")
                http.receive_data(data)


def _answer(response: h11.Response | h11.InformationalResponse, body: bytes) -> Answer:
    return Answer(response.status_code, {key.decode(): value.decode() for key, value in response.headers}, body)


class Wire(ABC):
    """A connection that is pumped by hand: `pump` reads once, `until` reads as long as it takes."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self.socket = connection
        self.ended = False
        self._early = received

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def pump(self) -> None:
        """Read what there is, waiting for it, and act on it."""
        if self._early:
            data, self._early = self._early, b""
        else:
            try:
                data = self.socket.recv(CHUNK)
            except ConnectionResetError:
                data = b""
        if data:
            self.receive(data)
            self.flush()
        else:
            self.ended = True

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Pump until `condition` holds. Raises AssertionError if the server hangs up, or is silent, before."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert not self.ended, f"the server hung up before {what or condition}: {self}"
            assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what or condition}"
            self.pump()

    def until_end(self) -> None:
        """Pump until the server hangs up."""
        while not self.ended:
            self.pump()

    def pending(self) -> bool:
        """Whether a read would not wait."""
        return bool(self._early or select.select([self.socket], [], [], 0)[0])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} ended={self.ended} {vars(self)!r:.2000}>"

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Take bytes from the server."""

    @abstractmethod
    def flush(self) -> None:
        """Send what is queued."""


class Spdy(Wire):
    """Streams of one SPDY connection, by number."""

    def __init__(
        self, url: str, protocols: Sequence[str], *, flow_control: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        headers = [("Upgrade", "SPDY/3.1"), *(("X-Stream-Protocol-Version", name) for name in protocols)]
        connection, self.answer, received = upgrade(url, headers, tls=tls)
        super().__init__(connection, received)
        self.spdy = SpdyConnection(Role.CLIENT, limits=Limits(), flow_control=flow_control)
        self.spdy.start()
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.finished: set[int] = set()
        self.resets: set[int] = set()
        self.going_away = False
        self.on_data: Callable[[int, bytes], None] = lambda stream, data: self.received[stream].extend(data)
        self._kept: set[int] = set()

    def keep(self, stream: int) -> None:
        """Acknowledge nothing more of a stream, as a reader that is stuck."""
        self._kept.add(stream)

    def receive(self, data: bytes) -> None:
        """Keep data by stream; acknowledge it at once."""
        for event in self.spdy.receive_data(data):
            match event:
                case events.DataReceived(stream, content):
                    self.on_data(stream, content)
                    if stream not in self._kept:
                        self.spdy.acknowledge(stream, len(content))
                case events.StreamFinished(stream):
                    self.finished.add(stream)
                case events.StreamReset(stream):
                    self.resets.add(stream)
                case events.GoAwayReceived():
                    self.going_away = True
                case events.ConnectionFailed(error):
                    raise AssertionError(f"the server broke the protocol: {error}")
                case _:
                    pass

    def flush(self) -> None:
        """Send what is queued."""
        if data := self.spdy.data_to_send():
            self.socket.sendall(data)

    def open(self, **headers: str) -> int:
        """Open a stream and return its number."""
        stream = self.spdy.open_stream({key.lower(): value for key, value in headers.items()})
        self.flush()
        return stream

    def send(self, stream: int, data: bytes) -> None:
        """Send all of `data`, pumping while the window is closed."""
        while data:
            data = data[self.spdy.send_data(stream, data) :]
            self.flush()
            if data:
                self.until(lambda: self.spdy.sendable(stream), "the window opens")

    def finish(self, stream: int) -> None:
        """Half-close."""
        self.spdy.finish(stream)
        self.flush()


class WebSocketWire(Wire):
    """Messages of one WebSocket connection; `on_message` gets each whole one."""

    def __init__(
        self,
        url: str,
        protocols: Sequence[str],
        on_message: Callable[[bytes], None],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
        if protocols:
            headers.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        connection, self.answer, received = upgrade(url, headers, method="GET", tls=tls)
        super().__init__(connection, received)
        self.websocket = WebSocket(client=True)
        self.closed: Closed | None = None
        self._on_message = on_message
        self._message = bytearray()

    def receive(self, data: bytes) -> None:
        """Put messages together."""
        for event in self.websocket.receive_data(data):
            if isinstance(event, MessagePiece):
                self._message += event.data
                if event.last:
                    message, self._message = bytes(self._message), bytearray()
                    self._on_message(message)
            elif isinstance(event, Closed):
                assert event.error is None, event
                self.closed = event

    def flush(self) -> None:
        """Send what is queued."""
        if data := self.websocket.data_to_send():
            with contextlib.suppress(ConnectionError):
                self.socket.sendall(data)

    def send(self, message: bytes, *, text: bool = False) -> None:
        """Send a message."""
        self.websocket.send(message, text=text)
        self.flush()
