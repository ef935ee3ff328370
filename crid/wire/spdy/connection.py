"""A SPDY/3.1 connection, either side: bytes in, events out, and calls that queue frames. It does no I/O.

Two rules bind it. Bytes from the peer never raise: a fault of one stream resets that stream, a fault of the connection
queues a GOAWAY and is the last event. A call that is illegal in the present state raises LocalProtocolError and changes
nothing.

Rules: SPDY protocol draft 3.1. Where the peers of crid depart from it, see `windows`.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from crid.wire.protocol import LocalProtocolError, RemoteProtocolError
from crid.wire.spdy import events, frames
from crid.wire.spdy.events import Event
from crid.wire.spdy.frames import GoAwayCode, ResetCode, Setting
from crid.wire.spdy.headers import HeaderCompressor
from crid.wire.spdy.stream import INITIAL_WINDOW, MOVES, Half, Move, Stream
from crid.wire.spdy.windows import Limits, Windows

MAX_DATA_PAYLOAD = 64 * 1024
"""Longer data is sent as several frames, so that streams take turns."""


class Role(Enum):
    """Who opened the socket; the value is its first stream number, and the parity of its pings."""

    CLIENT = 1
    SERVER = 2


class SpdyConnection:
    """One connection. With `flow_control` False it takes no part in windows, as Kubernetes' clients do."""

    def __init__(self, role: Role, *, limits: Limits | None = None, flow_control: bool = True) -> None:
        self._role = role
        self._limits = limits or Limits()
        self._flow_control = flow_control
        self._reader = frames.FrameReader(
            max_control_payload=self._limits.max_control_payload, max_header_bytes=self._limits.max_header_bytes
        )
        self._compressor = HeaderCompressor()
        self._outgoing: list[bytes] = []
        self._streams: dict[int, Stream] = {}
        self._own_streams = 0
        self._next_stream_id: int = role.value
        self._next_ping_id: int = role.value
        self._last_peer_stream_id = 0
        self._refused = 0
        self._peer_max_streams = frames.MAX_STREAM_ID
        # A client of ours speaks to crid, and one that announces windows must not send beyond them before the answer.
        heeded = flow_control and role is Role.CLIENT
        self._windows = Windows(self._limits, self._queue, flow_control=flow_control, heeded=heeded)
        self._going_away = False
        self._failed = False

    def __repr__(self) -> str:
        state = "failed" if self._failed else "going away" if self._going_away else "open"
        held = self._windows.whole.held
        return f"SpdyConnection({self._role.name.lower()}, {state}, streams={sorted(self._streams)}, held={held})"

    @property
    def read_paused(self) -> bool:
        """Whether a peer that heeds no windows has filled one: read no more until some of it is acknowledged."""
        return self._windows.read_paused

    @property
    def failed(self) -> bool:
        """Whether the peer broke the connection."""
        return self._failed

    def data_to_send(self) -> bytes:
        """The bytes queued since the last call."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def state(self, stream_id: int) -> tuple[Half, Half] | None:
        """What the sending and the receiving half may do; None once the stream has ended, or was never opened."""
        stream = self._streams.get(stream_id)
        return None if stream is None else (stream.sending, stream.receiving)

    # Sending

    def start(self) -> None:
        """Announces our windows; to be called once, before anything else is sent."""
        if not self._flow_control:
            return
        settings: dict[int, int] = {Setting.MAX_CONCURRENT_STREAMS: self._limits.max_streams}
        settings[Setting.INITIAL_WINDOW_SIZE] = self._limits.stream_window
        self._queue(frames.Settings(settings))
        if (more := self._limits.connection_window - INITIAL_WINDOW) > 0:
            self._queue(frames.WindowUpdate(0, more))

    def open_stream(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """Opens a stream and returns its number. Data may follow at once, though a cautious peer waits for the reply."""
        self._check_alive()
        if self._going_away:
            raise LocalProtocolError("no stream can be opened on a connection that is going away")
        if self._own_streams >= self._peer_max_streams:
            raise LocalProtocolError(f"the peer allows {self._peer_max_streams} streams at once")
        if self._next_stream_id > frames.MAX_STREAM_ID:
            raise LocalProtocolError("the connection has no stream number left")
        stream_id = self._next_stream_id
        self._next_stream_id += 2
        self._own_streams += 1
        self._add(stream_id, Half.FINISHED if fin else Half.OPEN, Half.AWAITING_REPLY)
        self._queue(frames.SynStream(stream_id, headers, fin))
        return stream_id

    def reply(self, stream_id: int, headers: Mapping[str, str] | None = None) -> None:
        """Accepts a stream that the peer opened."""
        self._move(stream_id, Move.REPLY)
        self._queue(frames.SynReply(stream_id, headers or {}))

    def send_headers(self, stream_id: int, headers: Mapping[str, str]) -> None:
        """Sends more headers."""
        self._move(stream_id, Move.HEADERS)
        self._queue(frames.MoreHeaders(stream_id, headers))

    def send_data(self, stream_id: int, data: bytes) -> int:
        """Sends what the windows let through; returns how many bytes. If not all, StreamWritable tells when to go on."""
        stream = self._move(stream_id, Move.DATA)
        taken = min(len(data), self._windows.room(stream))
        stream.blocked = taken < len(data)
        self._windows.sent(stream, taken)
        for start in range(0, taken, MAX_DATA_PAYLOAD):
            payload = data[start : min(start + MAX_DATA_PAYLOAD, taken)]
            self._outgoing.append(frames.data_header(stream_id, len(payload), fin=False))
            self._outgoing.append(payload)
        return taken

    def finish(self, stream_id: int) -> None:
        """Says that no more is sent on this stream. Windows do not hold it up."""
        stream = self._move(stream_id, Move.FIN)
        self._queue(frames.Data(stream_id, b"", fin=True))
        self._drop_if_ended(stream)

    def reset(self, stream_id: int, code: ResetCode = ResetCode.CANCEL) -> None:
        """Ends a stream at once, both ways; what it held counts as acknowledged."""
        self._check_alive()
        stream = self._streams.get(stream_id)
        if stream is None:
            raise LocalProtocolError(f"stream {stream_id} is not open")
        self._queue(frames.RstStream(stream_id, code))
        self._drop(stream)

    def sendable(self, stream_id: int) -> int:
        """How many bytes send_data would take now; 0 for a stream that cannot send."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sending is not Half.OPEN or self._failed:
            return 0
        return self._windows.room(stream)

    def acknowledge(self, stream_id: int, count: int) -> None:
        """`count` received bytes were consumed. On a stream that is gone it does nothing, for they were given back then."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not 0 <= count <= stream.held:
            raise LocalProtocolError(f"stream {stream_id} holds {stream.held} bytes, {count} cannot be acknowledged")
        self._windows.acknowledged(stream, count)
        self._drop_if_ended(stream)

    def ping(self) -> int:
        """Queues a ping; PongReceived brings its number back."""
        self._check_alive()
        ping_id = self._next_ping_id
        self._next_ping_id = ping_id + 2 if ping_id + 2 <= 0xFFFFFFFF else self._role.value
        self._queue(frames.Ping(ping_id))
        return ping_id

    def go_away(self, code: GoAwayCode = GoAwayCode.OK) -> None:
        """Says that no more streams are accepted; those open go on. Only the first call sends it."""
        if not self._going_away:
            self._going_away = True
            self._queue(frames.GoAway(self._last_peer_stream_id, code))

    # Receiving

    def receive_data(self, data: bytes) -> list[Event]:
        """Takes received bytes, in any portions; returns what happened. After ConnectionFailed it returns nothing."""
        return list(self.receive(data))

    def receive(self, data: bytes) -> Iterator[Event]:
        """The same, frame by frame, so that the caller answers each event in the state it came in, however much came at
        once. The iterator must be exhausted before the next call."""
        happened: list[Event] = []
        if self._failed:
            return
        try:
            for frame in self._reader.feed(data):
                _HANDLERS[type(frame)](self, frame, happened)
                yield from happened
                happened.clear()
        except RemoteProtocolError as error:
            self._fail(error, happened)
        yield from happened

    def receive_eof(self) -> list[Event]:
        """The peer sends no more. That is a fault only within a frame."""
        happened: list[Event] = []
        if not self._failed and not self._reader.between_frames:
            self._fail(RemoteProtocolError("the connection ended within a SPDY frame", GoAwayCode.PROTOCOL_ERROR), happened)
        return happened

    def _on_data(self, frame: frames.Data, happened: list[Event]) -> None:
        size = len(frame.data)
        self._windows.arrived(size)
        stream = self._streams.get(frame.stream_id)
        if stream is None or stream.receiving is not Half.OPEN:
            self._windows.dropped(size)
            self._data_out_of_place(frame.stream_id, stream, happened)
            return
        if self._windows.overruns(stream, size):
            self._windows.dropped(size)
            self._reset_for_fault(stream, ResetCode.FLOW_CONTROL_ERROR, happened)
            return
        if size:
            self._windows.taken_in(stream, size)
            happened.append(events.DataReceived(frame.stream_id, frame.data))
        if frame.fin:
            self._finished_by_peer(stream, happened)

    def _data_out_of_place(self, stream_id: int, stream: Stream | None, happened: list[Event]) -> None:
        if stream is not None:
            early = stream.receiving is Half.AWAITING_REPLY
            self._reset_for_fault(stream, ResetCode.PROTOCOL_ERROR if early else ResetCode.STREAM_ALREADY_CLOSED, happened)
        elif not self._was_opened(stream_id):
            self._queue(frames.RstStream(stream_id, ResetCode.INVALID_STREAM))
        # else: it was on its way when the stream was reset

    def _on_syn_stream(self, frame: frames.SynStream, happened: list[Event]) -> None:
        stream_id = frame.stream_id
        if stream_id % 2 == self._role.value % 2 or stream_id <= self._last_peer_stream_id:
            last = self._last_peer_stream_id
            raise _fault(f"the peer opened stream {stream_id} after {last}, out of order or not of its own numbers")
        self._last_peer_stream_id = stream_id
        if self._going_away:
            return
        if len(self._streams) - self._own_streams >= self._limits.max_streams:
            self._refuse(stream_id)
            return
        self._refused = 0
        sending = Half.FINISHED if frame.unidirectional else Half.AWAITING_REPLY
        stream = self._add(stream_id, sending, Half.OPEN)
        happened.append(events.StreamOpened(stream_id, frame.headers))
        if frame.fin:
            self._finished_by_peer(stream, happened)

    def _refuse(self, stream_id: int) -> None:
        """One stream too many is refused. A peer that goes on regardless is not worth listening to."""
        self._refused += 1
        if self._refused > self._limits.max_streams:
            raise _fault(f"the peer opened {self._refused} streams beyond the limit of {self._limits.max_streams}")
        self._queue(frames.RstStream(stream_id, ResetCode.REFUSED_STREAM))

    def _on_syn_reply(self, frame: frames.SynReply, happened: list[Event]) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            if not self._was_opened(frame.stream_id):
                self._queue(frames.RstStream(frame.stream_id, ResetCode.INVALID_STREAM))
            return
        if stream.receiving is not Half.AWAITING_REPLY:
            self._reset_for_fault(stream, ResetCode.STREAM_IN_USE, happened)
            return
        stream.receiving = MOVES[stream.receiving, Move.REPLY]
        happened.append(events.StreamReplied(frame.stream_id, frame.headers))
        if frame.fin:
            self._finished_by_peer(stream, happened)

    def _on_headers(self, frame: frames.MoreHeaders, happened: list[Event]) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is None or stream.receiving is not Half.OPEN:
            self._data_out_of_place(frame.stream_id, stream, happened)
            return
        happened.append(events.HeadersReceived(frame.stream_id, frame.headers))
        if frame.fin:
            self._finished_by_peer(stream, happened)

    def _on_rst_stream(self, frame: frames.RstStream, happened: list[Event]) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is not None:
            self._drop(stream)
            happened.append(events.StreamReset(frame.stream_id, frame.code, by_peer=True))

    def _on_settings(self, frame: frames.Settings, happened: list[Event]) -> None:
        if (streams := frame.values.get(Setting.MAX_CONCURRENT_STREAMS)) is not None:
            self._peer_max_streams = streams
        if (window := frame.values.get(Setting.INITIAL_WINDOW_SIZE)) is not None:
            self._windows.initial_size(window, self._streams.values())
            self._wake(happened)

    def _on_ping(self, frame: frames.Ping, happened: list[Event]) -> None:
        if frame.ping_id % 2 == self._role.value % 2:
            happened.append(events.PongReceived(frame.ping_id))
        else:
            self._queue(frame)

    def _on_goaway(self, frame: frames.GoAway, happened: list[Event]) -> None:
        happened.append(events.GoAwayReceived(frame.last_stream_id, frame.code))

    def _on_window_update(self, frame: frames.WindowUpdate, happened: list[Event]) -> None:
        stream = self._windows.whole if frame.stream_id == 0 else self._streams.get(frame.stream_id)
        if stream is None:
            return
        if self._windows.widened(stream, frame.delta):
            self._wake(happened)
        elif frame.stream_id == 0:
            raise _fault(f"a WINDOW_UPDATE of {frame.delta} bytes makes the connection's window {stream.send_window}")
        else:
            self._reset_for_fault(stream, ResetCode.FLOW_CONTROL_ERROR, happened)

    # Shared

    def _queue(self, frame: frames.Frame) -> None:
        self._outgoing.append(frames.serialize(frame, self._compressor))

    def _check_alive(self) -> None:
        if self._failed:
            raise LocalProtocolError("the connection has failed")

    def _move(self, stream_id: int, move: Move) -> Stream:
        """Makes a move of our half, if it is legal."""
        self._check_alive()
        stream = self._streams.get(stream_id)
        after = None if stream is None else MOVES.get((stream.sending, move))
        if stream is None or after is None:
            state = "ended or never opened" if stream is None else stream.sending.value
            raise LocalProtocolError(f"{move.value} cannot be sent on stream {stream_id}: it is {state}")
        stream.sending = after
        return stream

    def _wake(self, happened: list[Event]) -> None:
        for stream in self._streams.values():
            if stream.blocked and self._windows.room(stream) > 0:
                stream.blocked = False
                happened.append(events.StreamWritable(stream.stream_id))

    def _add(self, stream_id: int, sending: Half, receiving: Half) -> Stream:
        stream = self._streams[stream_id] = self._windows.new_stream(stream_id, sending, receiving)
        return stream

    def _was_opened(self, stream_id: int) -> bool:
        if stream_id % 2 == self._role.value % 2:
            return stream_id < self._next_stream_id
        return stream_id <= self._last_peer_stream_id

    def _finished_by_peer(self, stream: Stream, happened: list[Event]) -> None:
        stream.receiving = MOVES[stream.receiving, Move.FIN]
        happened.append(events.StreamFinished(stream.stream_id))
        self._drop_if_ended(stream)

    def _reset_for_fault(self, stream: Stream, code: ResetCode, happened: list[Event]) -> None:
        self._queue(frames.RstStream(stream.stream_id, code))
        self._drop(stream)
        happened.append(events.StreamReset(stream.stream_id, code, by_peer=False))

    def _drop_if_ended(self, stream: Stream) -> None:
        if stream.ended:
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        del self._streams[stream.stream_id]
        if stream.stream_id % 2 == self._role.value % 2:
            self._own_streams -= 1
        self._windows.forget(stream)

    def _fail(self, error: RemoteProtocolError, happened: list[Event]) -> None:
        self._failed = True
        if not self._going_away:
            self._queue(frames.GoAway(self._last_peer_stream_id, error.code))
        happened.append(events.ConnectionFailed(error))


def _fault(how: str) -> RemoteProtocolError:
    return RemoteProtocolError(how, GoAwayCode.PROTOCOL_ERROR)


_HANDLERS: dict[type[frames.Frame], Callable[[SpdyConnection, Any, list[Event]], None]] = {
    frames.Data: SpdyConnection._on_data,
    frames.SynStream: SpdyConnection._on_syn_stream,
    frames.SynReply: SpdyConnection._on_syn_reply,
    frames.MoreHeaders: SpdyConnection._on_headers,
    frames.RstStream: SpdyConnection._on_rst_stream,
    frames.Settings: SpdyConnection._on_settings,
    frames.Ping: SpdyConnection._on_ping,
    frames.GoAway: SpdyConnection._on_goaway,
    frames.WindowUpdate: SpdyConnection._on_window_update,
}
