"""Port-forward over SPDY: each forwarded connection is a pair of streams, `data` and `error`, opened by the client.

Both carry the headers `port` and `requestID`; the id is what pairs them, and may be used again once they are paired.
Old clients send none: their error stream comes first, and the data stream has the next number.
Rules: Kubernetes, k8s.io/client-go/tools/portforward.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crid.wire.session import (
    ForwardClosed,
    ForwardData,
    ForwardEvent,
    ForwardOpened,
    ForwardPending,
    ForwardReset,
    ForwardSession,
    Writable,
)
from crid.wire.spdy import GoAwayCode, Half, Limits, ResetCode
from crid.wire.spdy import events as spdy_events
from crid.wire.spdy.windows import UNBOUNDED
from crid.wire.transports import SpdySession

MAX_FORWARDS = 256
MAX_REQUEST_ID = 256


@dataclass(slots=True)
class _Pair:
    """The two streams by type, and what may have come on `data` before `error` was there: bytes, however they were cut, since a
    frame of one byte would cost fifty in a list, and an end."""

    port: int
    streams: dict[str, int] = field(default_factory=dict)
    early: bytearray = field(default_factory=bytearray)
    finished: bool = False


class SpdyForwardSession(SpdySession[ForwardEvent], ForwardSession):
    """See ForwardSession. A forward is named by the number of its data stream."""

    def __init__(self) -> None:
        super().__init__(Limits(max_streams=2 * MAX_FORWARDS))
        self._pending: dict[str, _Pair] = {}
        self._request_of: dict[int, str] = {}
        self._errors: dict[int, int] = {}
        """data stream -> error stream, of each forward"""

    def __repr__(self) -> str:
        return f"SpdyForwardSession(forwards={len(self._errors)}, pending={len(self._pending)}, {self._spdy!r})"

    def send(self, forward: int, data: bytes) -> int:
        return self._spdy.send_data(forward, data) if self._is_open(forward) else len(data)

    def writable(self, forward: int) -> int:
        return self._spdy.sendable(forward) if self._is_open(forward) else UNBOUNDED

    def acknowledge(self, forward: int, count: int) -> None:
        if not self._gone:
            self._spdy.acknowledge(forward, count)

    def finish(self, forward: int) -> None:
        for stream_id in (forward, self._errors.get(forward)):
            if stream_id is not None and self._is_open(stream_id):
                self._spdy.finish(stream_id)
        self._forget_if_ended(forward)

    def fail(self, forward: int, message: str) -> None:
        error = self._errors.pop(forward, None)
        if error is not None and self._is_open(error):
            self._spdy.send_data(error, message.encode())
            self._spdy.finish(error)
        if not self.done and self._spdy.state(forward) is not None:
            self._spdy.reset(forward, ResetCode.INTERNAL_ERROR)

    def expire(self, request_id: str) -> None:
        pair = self._pending.pop(request_id, None)
        for stream_id in [] if pair is None else pair.streams.values():
            del self._request_of[stream_id]
            if not self.done and self._spdy.state(stream_id) is not None:
                self._spdy.reset(stream_id, ResetCode.CANCEL)

    def finish_all(self) -> None:
        if not self.done:
            self._farewell()

    def abort(self, reason: str) -> None:
        for forward in list(self._errors):
            self.fail(forward, reason)
        if not self.done:
            self._farewell(GoAwayCode.INTERNAL_ERROR)

    def _on_stream_event(self, event: spdy_events.Event, happened: list[ForwardEvent]) -> None:
        match event:
            case spdy_events.StreamOpened(stream_id, headers):
                self._on_opened(stream_id, headers, happened)
            case (
                spdy_events.DataReceived(stream_id)
                | spdy_events.StreamFinished(stream_id)
                | spdy_events.StreamReset(stream_id)
                | spdy_events.StreamWritable(stream_id)
            ):
                if (request_id := self._request_of.get(stream_id)) is not None:
                    self._on_pending_event(request_id, stream_id, event)
                else:
                    self._on_forward_event(stream_id, event, happened)
            case _:
                pass

    def _on_opened(self, stream_id: int, headers: Mapping[str, str], happened: list[ForwardEvent]) -> None:
        state = self._spdy.state(stream_id)
        kind, port = headers.get("streamtype", ""), _parse_port(headers.get("port", ""))
        request_id = headers.get("requestid") or str(stream_id if kind == "error" else stream_id - 2)
        if state is None:
            return
        pair = self._pending.get(request_id)
        is_valid = kind in ("data", "error") and port is not None and len(request_id) <= MAX_REQUEST_ID
        fits = pair is None or (kind not in pair.streams and pair.port == port)
        if port is None or not is_valid or not fits or state[0] is not Half.AWAITING_REPLY:
            self._spdy.reset(stream_id, ResetCode.PROTOCOL_ERROR)
            return
        self._spdy.reply(stream_id)
        if pair is None:
            pair = self._pending[request_id] = _Pair(port)
            happened.append(ForwardPending(request_id))
        pair.streams[kind] = stream_id
        self._request_of[stream_id] = request_id
        if len(pair.streams) == 2:
            self._complete(request_id, pair, happened)

    def _complete(self, request_id: str, pair: _Pair, happened: list[ForwardEvent]) -> None:
        del self._pending[request_id]
        for stream_id in pair.streams.values():
            del self._request_of[stream_id]
        forward = pair.streams["data"]
        self._errors[forward] = pair.streams["error"]
        happened.append(ForwardOpened(forward, pair.port))
        if pair.early:
            self._on_stream_event(spdy_events.DataReceived(forward, bytes(pair.early)), happened)
        if pair.finished:
            self._on_stream_event(spdy_events.StreamFinished(forward), happened)

    def _on_pending_event(self, request_id: str, stream_id: int, event: spdy_events.Event) -> None:
        if isinstance(event, spdy_events.StreamReset):
            # Half a pair is of no use: the other stream of this id would wait for ever.
            self.expire(request_id)
        elif stream_id == (pair := self._pending[request_id]).streams.get("data"):
            if isinstance(event, spdy_events.DataReceived):
                pair.early += event.data
            pair.finished = pair.finished or isinstance(event, spdy_events.StreamFinished)
        elif isinstance(event, spdy_events.DataReceived):
            self._spdy.acknowledge(stream_id, len(event.data))

    def _on_forward_event(self, stream_id: int, event: spdy_events.Event, happened: list[ForwardEvent]) -> None:
        is_forward = stream_id in self._errors
        match event:
            case spdy_events.DataReceived(_, data) if is_forward:
                happened.append(ForwardData(stream_id, data))
            case spdy_events.DataReceived(_, data):
                # Nobody has anything to say on an error stream, or on one that has failed.
                self._spdy.acknowledge(stream_id, len(data))
            case spdy_events.StreamFinished() if is_forward:
                happened.append(ForwardClosed(stream_id))
                self._forget_if_ended(stream_id)
            case spdy_events.StreamReset() if is_forward:
                self._end_error_stream(self._errors.pop(stream_id))
                happened.append(ForwardReset(stream_id))
            case spdy_events.StreamWritable() if is_forward:
                happened.append(Writable(stream_id))
            case _:
                pass

    def _end_error_stream(self, stream_id: int) -> None:
        if self._is_open(stream_id):
            self._spdy.finish(stream_id)

    def _forget_if_ended(self, forward: int) -> None:
        state = self._spdy.state(forward)
        if state is None or state == (Half.FINISHED, Half.FINISHED):
            self._errors.pop(forward, None)


def _parse_port(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    return port if 0 < (port := int(text)) <= 0xFFFF else None
