"""What happened on a SPDY connection, in order. Streams are named by their number."""

from collections.abc import Mapping
from dataclasses import dataclass

from crid.wire.protocol import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream: answer with `reply` or `reset`. Header names are in lower case."""

    stream_id: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StreamReplied:
    """The peer accepted a stream we opened."""

    stream_id: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HeadersReceived:
    """More headers for an open stream."""

    stream_id: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes, never empty. They count as held until acknowledged; where one piece ends and the next begins means nothing."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamFinished:
    """The peer sends no more on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The stream is gone, both ways; what it held is acknowledged. `by_peer` is False if it broke the protocol."""

    stream_id: int
    code: int
    by_peer: bool


@dataclass(frozen=True, slots=True)
class StreamWritable:
    """A stream that had taken less than offered takes more."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class PongReceived:
    """Our ping came back."""

    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAwayReceived:
    """The peer accepts no more streams; those open go on."""

    last_stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """The last event: the peer broke the protocol. The GOAWAY that says so waits in data_to_send()."""

    error: RemoteProtocolError


Event = (
    StreamOpened
    | StreamReplied
    | HeadersReceived
    | DataReceived
    | StreamFinished
    | StreamReset
    | StreamWritable
    | PongReceived
    | GoAwayReceived
    | ConnectionFailed
)
