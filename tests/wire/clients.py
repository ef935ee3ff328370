"""The other side of the wire, for tests: a SPDY and a WebSocket client without I/O."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from crid.wire.session import CommandSession, ForwardSession
from crid.wire.spdy import Role, SpdyConnection
from crid.wire.spdy import events as spdy_events
from crid.wire.websocket import Closed, MessagePiece, WebSocket

SomeSession = TypeVar("SomeSession", bound=CommandSession | ForwardSession)


@dataclass
class SpdyClient(Generic[SomeSession]):
    """A SPDY client joined to a session; keeps what arrives by stream. `heeds_windows` False imitates client-go."""

    session: SomeSession
    heeds_windows: bool = True
    received: dict[int, bytes] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spdy = SpdyConnection(Role.CLIENT, flow_control=self.heeds_windows)
        self.spdy.start()
        self.seen: list[Any] = list(self.session.start())

    def open(self, **headers: str) -> int:
        """Opens a stream; the session has seen it when this returns."""
        stream_id = self.spdy.open_stream(headers)
        self.exchange()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> list[Any]:
        """Sends data and returns what the session made of it."""
        if data:
            self.spdy.send_data(stream_id, data)
        if fin:
            self.spdy.finish(stream_id)
        return self.exchange()

    def exchange(self, *, acknowledge: bool = True) -> list[Any]:
        """Carries bytes both ways until both are silent; returns the session's new events."""
        fresh: list[Any] = []
        while True:
            to_server, to_client = self.spdy.data_to_send(), self.session.data_to_send()
            if not to_server and not to_client:
                self.seen += fresh
                return fresh
            fresh += self.session.receive_data(to_server)
            for event in self.spdy.receive_data(to_client):
                self._note(event, acknowledge)

    def _note(self, event: spdy_events.Event, acknowledge: bool) -> None:
        self.events.append(event)
        match event:
            case spdy_events.DataReceived(stream_id, data):
                self.received[stream_id] = self.received.get(stream_id, b"") + data
                if acknowledge:
                    self.spdy.acknowledge(stream_id, len(data))
            case spdy_events.StreamFinished(stream_id):
                self.finished.add(stream_id)
            case spdy_events.StreamReset(stream_id, code):
                self.resets[stream_id] = code


class WebSocketClient(Generic[SomeSession]):
    """A WebSocket client joined to a session; `messages` are those received, `closed` the close."""

    def __init__(self, session: SomeSession) -> None:
        self.session = session
        self.socket = WebSocket(client=True)
        self.messages: list[bytes] = []
        self.closed: Closed | None = None
        self._partial = b""
        self.seen: list[Any] = list(session.start())
        self.exchange()

    def send(self, payload: bytes, *, text: bool = False) -> list[Any]:
        """Sends one message and returns what the session made of it."""
        self.socket.send(payload, text=text)
        return self.exchange()

    def exchange(self) -> list[Any]:
        """Carries bytes both ways until both are silent; returns the session's new events."""
        fresh: list[Any] = []
        while True:
            to_server, to_client = self.socket.data_to_send(), self.session.data_to_send()
            if not to_server and not to_client:
                self.seen += fresh
                return fresh
            fresh += self.session.receive_data(to_server)
            for event in self.socket.receive_data(to_client):
                self._note(event)

    def _note(self, event: MessagePiece | Closed) -> None:
        if isinstance(event, Closed):
            self.closed = event
            return
        self._partial += event.data
        if event.last:
            self.messages.append(self._partial)
            self._partial = b""


def request_head(method: str, headers: Mapping[str, str | list[str]]) -> bytes:
    """An HTTP request."""
    lines = [f"{method} /exec/TOKEN HTTP/1.1", "Host: 127.0.0.1"]
    for name, value in headers.items():
        lines += [f"{name}: {each}" for each in ([value] if isinstance(value, str) else value)]
    return "\r\n".join([*lines, "", ""]).encode()


WEBSOCKET_KEY = base64.b64encode(b"sixteen byte key").decode()


def websocket_head(*protocols: str) -> bytes:
    """A WebSocket handshake."""
    headers: dict[str, str | list[str]] = {
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": WEBSOCKET_KEY,
    }
    if protocols:
        headers["Sec-WebSocket-Protocol"] = ", ".join(protocols)
    return request_head("GET", headers)
