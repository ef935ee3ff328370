"""The old port-forward over WebSocket: ports are named in the request, and each has two channels from the start.

Channel 2n carries the data of the n-th port, channel 2n+1 its errors; each begins with the port as two bytes, low byte
first. There is no half-close. kubectl speaks the tunnelled SPDY instead; the Kubernetes clients for Python and
JavaScript speak this. Rules: Kubernetes, kubelet's portforward over WebSocket, v4.channel.k8s.io.
"""

from collections.abc import Sequence

from crid.wire.channels import ChannelReader, send_on_channel
from crid.wire.protocol import LocalProtocolError
from crid.wire.session import ForwardData, ForwardEvent, ForwardOpened, ForwardSession
from crid.wire.spdy.windows import UNBOUNDED
from crid.wire.transports import WebSocketSession
from crid.wire.websocket import MessagePiece


class WebSocketForwardSession(WebSocketSession[ForwardEvent], ForwardSession):
    """See ForwardSession. A forward is named by its place in `ports`."""

    def __init__(self, ports: Sequence[int], *, base64: bool) -> None:
        super().__init__()
        self._ports = tuple(ports)
        self._base64 = base64
        self._reader = ChannelReader(is_base64=base64)
        self._open = set(range(len(self._ports)))
        self._held_by = dict.fromkeys(self._open, 0)

    def __repr__(self) -> str:
        return f"WebSocketForwardSession(ports={self._ports}, open={sorted(self._open)}, held={self._held}, {self._socket!r})"

    def start(self) -> list[ForwardEvent]:
        for forward, port in enumerate(self._ports):
            self._send(2 * forward, port.to_bytes(2, "little"))
            self._send(2 * forward + 1, port.to_bytes(2, "little"))
        return [ForwardOpened(forward, port) for forward, port in enumerate(self._ports)]

    def send(self, forward: int, data: bytes) -> int:
        if forward in self._open and data and not self.done:
            self._send(2 * forward, data)
        return len(data)

    def writable(self, forward: int) -> int:
        return UNBOUNDED

    def acknowledge(self, forward: int, count: int) -> None:
        held = self._held_by.get(forward)
        if held is None:
            return
        if not 0 <= count <= held:
            raise LocalProtocolError(f"forward {forward} holds {held} bytes, {count} cannot be acknowledged")
        self._held_by[forward] -= count
        self._held -= count

    def finish(self, forward: int) -> None:
        self._open.discard(forward)
        self._held -= self._held_by.pop(forward, 0)

    def fail(self, forward: int, message: str) -> None:
        if forward in self._open and not self.done:
            self._send(2 * forward + 1, message.encode())
        self.finish(forward)

    def expire(self, request_id: str) -> None:
        """Nothing is ever pending here."""

    def finish_all(self) -> None:
        self._socket.close()

    def abort(self, reason: str) -> None:
        for forward in sorted(self._open):
            self.fail(forward, reason)
        self._socket.close()

    def _send(self, channel: int, data: bytes) -> None:
        send_on_channel(self._socket, channel, data, is_base64=self._base64)

    def _on_piece(self, piece: MessagePiece, happened: list[ForwardEvent]) -> None:
        if (part := self._reader.feed(piece)) is None:
            return
        channel, data, _ = part
        forward = channel // 2
        if data and channel % 2 == 0 and forward in self._open:
            self._held += len(data)
            self._held_by[forward] += len(data)
            happened.append(ForwardData(forward, data))
