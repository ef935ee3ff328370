"""Exec and attach over WebSocket: one channel for each of stdin, stdout, stderr, error and resize, there from the start."""

from crid.wire.channels import ChannelReader, send_on_channel
from crid.wire.protocol import LocalProtocolError
from crid.wire.resize import ResizeReader
from crid.wire.session import Channel, CommandEvent, CommandSession, Ready, Status, StdinClosed, StdinData, Streams
from crid.wire.spdy.windows import UNBOUNDED
from crid.wire.transports import WebSocketSession, unsupported_data
from crid.wire.websocket import MessagePiece

_CLOSE_SIGNAL = 255


class WebSocketCommandSession(WebSocketSession[CommandEvent], CommandSession):
    """See CommandSession. `version` is 1 to 5; `base64` writes messages as text."""

    def __init__(self, version: int, streams: Streams, *, base64: bool) -> None:
        super().__init__()
        self._version = version
        self._base64 = base64
        self._reader = ChannelReader(is_base64=base64)
        self._stdin_open = streams.stdin
        self._output = {Channel.STDOUT: streams.stdout, Channel.STDERR: streams.stderr and not streams.tty}
        self._closing = b""
        self._resizes = ResizeReader()

    def __repr__(self) -> str:
        kind = "base64" if self._base64 else "binary"
        return f"WebSocketCommandSession(v{self._version}, {kind}, held={self._held}, done={self.done}, {self._socket!r})"

    def start(self) -> list[CommandEvent]:
        # An empty message on the lowest channel that is written to: clients take it as a sign that all is set up.
        first = next((channel for channel, is_open in self._output.items() if is_open), Channel.ERROR)
        send_on_channel(self._socket, first, b"", is_base64=self._base64)
        return [Ready()]

    def send(self, channel: Channel, data: bytes) -> int:
        if self._output.get(channel) and data and not self.done:
            send_on_channel(self._socket, channel, data, is_base64=self._base64)
        return len(data)

    def writable(self, channel: Channel) -> int:
        return UNBOUNDED

    def acknowledge(self, count: int) -> None:
        if not 0 <= count <= self._held:
            raise LocalProtocolError(f"stdin holds {self._held} bytes, {count} cannot be acknowledged")
        self._held -= count

    def finish(self, status: Status) -> None:
        if self.done:
            return
        text = status.to_json() if self._version >= 4 else status.message.encode()
        if text:
            send_on_channel(self._socket, Channel.ERROR, text, is_base64=self._base64)
        self._socket.close()

    def abort(self, reason: str) -> None:
        self.finish(Status(failure=reason))

    def _on_piece(self, piece: MessagePiece, happened: list[CommandEvent]) -> None:
        if (part := self._reader.feed(piece)) is None:
            return
        channel, data, last = part
        if channel == Channel.STDIN:
            if data and self._stdin_open:
                self._held += len(data)
                happened.append(StdinData(data))
        elif channel == Channel.RESIZE:
            happened.extend(self._resizes.feed(data))
        elif channel == _CLOSE_SIGNAL and self._version >= 5:
            self._on_close_signal(data, last, happened)
        # else: a channel that only we write to, or none. Kubernetes' own servers pass over it too.

    def _on_close_signal(self, data: bytes, last: bool, happened: list[CommandEvent]) -> None:
        self._closing = (self._closing + data)[:2]
        if not last and len(self._closing) < 2:
            return
        target, self._closing = self._closing, b""
        if len(target) != 1 or target[0] not in tuple(Channel):
            raise unsupported_data("a close signal names no channel")
        if target[0] == Channel.STDIN and self._stdin_open:
            self._stdin_open = False
            happened.append(StdinClosed())
