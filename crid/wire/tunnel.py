"""SPDY inside binary WebSocket messages, as kubectl's port-forward speaks it to pass proxies that only know WebSocket.

Where a message ends means nothing: the messages are one stream of bytes. A normal WebSocket close is the end of it.
Rules: KEP-4006, k8s.io/client-go/tools/portforward.
"""

from crid.wire.portforward_spdy import SpdyForwardSession
from crid.wire.protocol import RemoteProtocolError
from crid.wire.session import ClientGone, ForwardEvent, ForwardSession
from crid.wire.transports import HUNG_UP, unsupported_data
from crid.wire.websocket import Closed, WebSocket, WebSocketEvent


class TunnelledForwardSession(ForwardSession):
    """A SPDY port-forward session, each of its bytes wrapped."""

    def __init__(self) -> None:
        self._inner = SpdyForwardSession()
        self._socket = WebSocket()
        self._gone = False

    def __repr__(self) -> str:
        return f"TunnelledForwardSession({self._socket!r}, {self._inner!r})"

    def start(self) -> list[ForwardEvent]:
        return self._inner.start()

    def receive_data(self, data: bytes) -> list[ForwardEvent]:
        happened: list[ForwardEvent] = []
        for event in self._socket.receive_data(data):
            self._on_event(event, happened)
        return happened

    def receive_eof(self) -> list[ForwardEvent]:
        return [] if self._gone else self._inner.receive_eof()

    def data_to_send(self) -> bytes:
        if wrapped := self._inner.data_to_send():
            self._socket.send(wrapped)
        if self._inner.done:
            self._socket.close()
        return self._socket.data_to_send()

    @property
    def read_paused(self) -> bool:
        return self._inner.read_paused

    @property
    def done(self) -> bool:
        return self._gone or self._inner.done

    def ping(self) -> None:
        self._inner.ping()

    def abort(self, reason: str) -> None:
        self._inner.abort(reason)

    def send(self, forward: int, data: bytes) -> int:
        return self._inner.send(forward, data)

    def writable(self, forward: int) -> int:
        return self._inner.writable(forward)

    def acknowledge(self, forward: int, count: int) -> None:
        self._inner.acknowledge(forward, count)

    def finish(self, forward: int) -> None:
        self._inner.finish(forward)

    def fail(self, forward: int, message: str) -> None:
        self._inner.fail(forward, message)

    def expire(self, request_id: str) -> None:
        self._inner.expire(request_id)

    def finish_all(self) -> None:
        self._inner.finish_all()

    def _on_event(self, event: WebSocketEvent, happened: list[ForwardEvent]) -> None:
        if self._gone:
            return
        if isinstance(event, Closed):
            self._end(event.reason or HUNG_UP, event.error, happened)
        elif event.text:
            error = unsupported_data("a tunnelled message is text")
            self._socket.close(error.code, str(error))
            self._end(str(error), error, happened)
        else:
            happened.extend(self._inner.receive_data(event.data))

    def _end(self, reason: str, error: RemoteProtocolError | None, happened: list[ForwardEvent]) -> None:
        self._gone = True
        if not self._inner.done:
            happened.append(ClientGone(reason, error))
