"""WebSocket messages after the upgrade, either side. Framing and masking are wsproto's; this adds what sessions need.

Payloads are passed on in pieces as they arrive, so a message of any size needs no more memory than one read. Pings are
answered, a close is answered with a close. No extensions are spoken. Rules: RFC 6455.
"""

from dataclasses import dataclass

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from crid.wire.protocol import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class MessagePiece:
    """Part of a message; `first` and `last` mark its ends. A text message comes as its UTF-8 bytes."""

    data: bytes
    first: bool
    last: bool
    text: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The last event: the peer closed, or broke the protocol, and then `error` is set. Our close is queued."""

    code: int
    reason: str
    error: RemoteProtocolError | None = None


WebSocketEvent = MessagePiece | Closed


class WebSocket:
    """One connection; `client` says which side this is. After it has closed, received bytes are dropped."""

    def __init__(self, *, client: bool = False) -> None:
        self._frames = FrameProtocol(client=client, extensions=[])
        self._outgoing: list[bytes | bytearray] = []
        self._within_message = False
        self._text = False
        self._close_sent = False
        self._closed = False

    def __repr__(self) -> str:
        return f"WebSocket({'closed' if self._closed else 'closing' if self._close_sent else 'open'})"

    @property
    def close_sent(self) -> bool:
        """Whether our close is queued: nothing may be sent after it."""
        return self._close_sent

    def data_to_send(self) -> bytes:
        """The bytes queued since the last call."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def send(self, payload: bytes, *, text: bool = False) -> None:
        """Queues one message; `text` must be UTF-8. Dropped after our close."""
        if not self._close_sent:
            self._outgoing.append(self._frames.send_data(payload.decode() if text else payload, fin=True))

    def ping(self) -> None:
        """Queues a ping. The answer is no event."""
        if not self._close_sent:
            self._outgoing.append(self._frames.ping())

    def close(self, code: int = CloseReason.NORMAL_CLOSURE, reason: str = "") -> None:
        """Queues our close, once. What does not fit of the reason is cut off."""
        if not self._close_sent:
            self._close_sent = True
            self._outgoing.append(self._frames.close(code, reason or None))

    def receive_data(self, data: bytes) -> list[WebSocketEvent]:
        """Takes received bytes, in any portions."""
        happened: list[WebSocketEvent] = []
        if self._closed:
            return happened
        self._frames.receive_bytes(data)
        try:
            for frame in self._frames.received_frames():
                self._on_frame(frame, happened)
        except ParseFailed as error:
            self._closed = True
            fault = RemoteProtocolError(f"the WebSocket client broke the protocol: {error}", error.code)
            happened.append(Closed(error.code, str(error), fault))
            self.close(error.code)
        return happened

    def _on_frame(self, frame: Frame, happened: list[WebSocketEvent]) -> None:
        payload = frame.payload
        if frame.opcode is Opcode.PING:
            if not self._close_sent:
                assert isinstance(payload, bytes)
                self._outgoing.append(self._frames.pong(payload))
        elif frame.opcode is Opcode.CLOSE:
            assert isinstance(payload, tuple)
            self._closed = True
            happened.append(Closed(payload[0], payload[1] or ""))
            self.close()
        elif frame.opcode is not Opcode.PONG:
            assert not isinstance(payload, tuple)
            self._on_payload(frame, payload, happened)

    def _on_payload(self, frame: Frame, payload: bytes | str, happened: list[WebSocketEvent]) -> None:
        first = not self._within_message
        if first:
            self._text = frame.opcode is Opcode.TEXT
        self._within_message = not frame.message_finished
        data = payload.encode() if isinstance(payload, str) else payload
        if data or frame.message_finished:
            happened.append(MessagePiece(data, first, frame.message_finished, self._text))
        elif first:
            # Nothing of it is there yet, so the next piece is still the first.
            self._within_message = False
