"""What sessions of one transport share: the life of the connection, from start to farewell.

`SpdySession` and `WebSocketSession` turn transport events into calls that exec, attach and port-forward fill in.
"""

from abc import abstractmethod

from wsproto.frame_protocol import CloseReason

from crid.wire.protocol import RemoteProtocolError
from crid.wire.session import WINDOW, ClientGone, Event, Session
from crid.wire.spdy import GoAwayCode, Half, Limits, Role, SpdyConnection
from crid.wire.spdy import events as spdy_events
from crid.wire.websocket import Closed, MessagePiece, WebSocket

HUNG_UP = "the client closed the connection"


class SpdySession(Session[Event]):
    """A session over one SPDY connection, server side."""

    def __init__(self, limits: Limits) -> None:
        self._spdy = SpdyConnection(Role.SERVER, limits=limits)
        self._gone = False
        self._finished = False

    def start(self) -> list[Event]:
        self._spdy.start()
        return []

    def receive_data(self, data: bytes) -> list[Event]:
        happened: list[Event] = []
        if not self._gone:
            for event in self._spdy.receive(data):
                self._on_event(event, happened)
        return happened

    def receive_eof(self) -> list[Event]:
        happened: list[Event] = []
        if not self._gone:
            for event in self._spdy.receive_eof():
                self._on_event(event, happened)
            self._client_gone(HUNG_UP, happened)
        return happened

    def data_to_send(self) -> bytes:
        return self._spdy.data_to_send()

    @property
    def read_paused(self) -> bool:
        return self._spdy.read_paused

    @property
    def done(self) -> bool:
        return self._gone or self._finished

    def ping(self) -> None:
        if not self._gone:
            self._spdy.ping()

    def _on_event(self, event: spdy_events.Event, happened: list[Event]) -> None:
        if isinstance(event, spdy_events.ConnectionFailed):
            self._client_gone(str(event.error), happened, event.error)
        else:
            self._on_stream_event(event, happened)

    def _client_gone(self, reason: str, happened: list[Event], error: RemoteProtocolError | None = None) -> None:
        if not self._gone:
            self._gone = True
            happened.append(ClientGone(reason, error))  # type: ignore[arg-type]  # both unions of events hold it

    def _farewell(self, code: GoAwayCode = GoAwayCode.OK) -> None:
        self._finished = True
        self._spdy.go_away(code)

    def _is_open(self, stream_id: int | None) -> bool:
        """Whether the stream takes output from us, now or when its window opens."""
        state = None if stream_id is None or self.done else self._spdy.state(stream_id)
        return state is not None and state[0] is Half.OPEN

    @abstractmethod
    def _on_stream_event(self, event: spdy_events.Event, happened: list[Event]) -> None: ...


class WebSocketSession(Session[Event]):
    """A session over WebSocket messages, server side. Its input has no windows: `held` bytes count for all channels."""

    def __init__(self) -> None:
        self._socket = WebSocket()
        self._held = 0
        self._gone = False

    def receive_data(self, data: bytes) -> list[Event]:
        happened: list[Event] = []
        if self._gone:
            return happened
        try:
            for event in self._socket.receive_data(data):
                if isinstance(event, Closed):
                    self._client_gone(event.reason or HUNG_UP, happened, event.error)
                else:
                    self._on_piece(event, happened)
        except RemoteProtocolError as error:
            self._socket.close(error.code, str(error))
            self._client_gone(str(error), happened, error)
        return happened

    def receive_eof(self) -> list[Event]:
        happened: list[Event] = []
        self._client_gone(HUNG_UP, happened)
        return happened

    def data_to_send(self) -> bytes:
        return self._socket.data_to_send()

    @property
    def read_paused(self) -> bool:
        return self._held >= WINDOW

    @property
    def done(self) -> bool:
        return self._gone or self._socket.close_sent

    def ping(self) -> None:
        if not self._gone:
            self._socket.ping()

    def _client_gone(self, reason: str, happened: list[Event], error: RemoteProtocolError | None = None) -> None:
        if not self._gone:
            self._gone = True
            happened.append(ClientGone(reason, error))  # type: ignore[arg-type]  # both unions of events hold it

    @abstractmethod
    def _on_piece(self, piece: MessagePiece, happened: list[Event]) -> None:
        """May raise RemoteProtocolError: its code and text become our close."""


def unsupported_data(message: str) -> RemoteProtocolError:
    """A message whose kind or target makes no sense here."""
    return RemoteProtocolError(message, CloseReason.UNSUPPORTED_DATA)
