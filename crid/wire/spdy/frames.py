"""SPDY/3.1 frames: bytes to frames and back. Knows nothing of streams.

A frame has eight bytes of header. The payload of DATA is passed on in pieces as it arrives, so a frame of 16 MiB needs
no more memory than one read; a control frame is held until it is whole, and is bounded. Control frames of a type that
is not known are skipped, as the draft asks.
Rules: SPDY protocol draft 3.1, section 2.2 (framing), 2.6 (control frames).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from crid.wire.protocol import RemoteProtocolError
from crid.wire.spdy.headers import HeaderCompressor, HeaderDecompressor

VERSION = 3
MAX_STREAM_ID = 0x7FFFFFFF
MAX_FRAME_PAYLOAD = 0xFFFFFF
FLAG_FIN = 0x01
FLAG_UNIDIRECTIONAL = 0x02

_HEADER = Struct("!II")
_WORD = Struct("!I")
_TWO_WORDS = Struct("!II")
_SYN_STREAM = Struct("!IIBB")


class FrameType(IntEnum):
    """Numbers of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class ResetCode(IntEnum):
    """Why one stream was ended (RST_STREAM)."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9
    FRAME_TOO_LARGE = 11


class GoAwayCode(IntEnum):
    """Why a connection was ended (GOAWAY)."""

    OK = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class Setting(IntEnum):
    """The settings crid sends or heeds."""

    MAX_CONCURRENT_STREAMS = 4
    INITIAL_WINDOW_SIZE = 7


@dataclass(frozen=True, slots=True)
class SynStream:
    """Opens a stream."""

    stream_id: int
    headers: Mapping[str, str]
    fin: bool = False
    unidirectional: bool = False


@dataclass(frozen=True, slots=True)
class SynReply:
    """Accepts a stream."""

    stream_id: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    """Ends a stream at once, both ways."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Values by number; numbers that are not known are kept."""

    values: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Ping:
    """To be sent back, unless it is our own coming back."""

    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """No more streams; `last_stream_id` is the last one that was looked at."""

    last_stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class MoreHeaders:
    """HEADERS: more of them for an open stream."""

    stream_id: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    """The peer may be sent `delta` more bytes on this stream, or, if it is 0, on the connection."""

    stream_id: int
    delta: int


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a DATA frame; `fin` is on the last piece only."""

    stream_id: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | RstStream | Settings | Ping | GoAway | MoreHeaders | WindowUpdate | Data


class FrameReader:
    """Cuts received bytes into frames. After an error it must not be fed again."""

    def __init__(self, *, max_control_payload: int, max_header_bytes: int) -> None:
        self._max_control_payload = max_control_payload
        self._headers = HeaderDecompressor(max_header_bytes, GoAwayCode.PROTOCOL_ERROR)
        self._held = bytearray()
        self._needed = _HEADER.size
        self._data_stream = 0
        self._data_fin = False
        self._data_left = 0

    @property
    def between_frames(self) -> bool:
        """Whether the bytes so far end with a whole frame."""
        return not self._held and not self._data_left

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes more bytes and yields what they complete. It must be exhausted before it is called again.

        Raises RemoteProtocolError, after the frames before the broken one were yielded.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        at, end = 0, len(data)
        while at < end:
            if self._data_left:
                piece = data[at : at + self._data_left]
                at += len(piece)
                self._data_left -= len(piece)
                yield Data(self._data_stream, piece, self._data_fin and not self._data_left)
                continue
            length = self._frame_length(data, at, end)
            if length > end - at:
                self._held += memoryview(data)[at:]
                self._needed = length
                return
            frame = self._frame(data, at, length)
            at += length
            if frame is not None:
                yield frame

    def _frame_length(self, data: bytes, at: int, end: int) -> int:
        """How many bytes from here must be there to go on: the header alone for DATA, else the whole frame."""
        if end - at < _HEADER.size:
            return _HEADER.size
        first, second = _HEADER.unpack_from(data, at)
        if not first & 0x80000000:
            return _HEADER.size
        payload: int = second & MAX_FRAME_PAYLOAD
        if payload > self._max_control_payload:
            raise _broken(f"a control frame of {payload} bytes is more than {self._max_control_payload}")
        return _HEADER.size + payload

    def _frame(self, data: bytes, at: int, length: int) -> Frame | None:
        first, second = _HEADER.unpack_from(data, at)
        flags = second >> 24
        if not first & 0x80000000:
            return self._begin_data(first, flags, second & MAX_FRAME_PAYLOAD)
        if (version := first >> 16 & 0x7FFF) != VERSION:
            raise _broken(f"a control frame is of version {version}")
        parse = _PARSERS.get(first & 0xFFFF)
        if parse is None:
            return None
        return parse(self._headers, data[at + _HEADER.size : at + length], flags)

    def _begin_data(self, stream_id: int, flags: int, length: int) -> Data | None:
        if stream_id == 0:
            raise _broken("DATA is for stream 0")
        self._data_stream = stream_id
        self._data_fin = bool(flags & FLAG_FIN)
        self._data_left = length
        return None if length else Data(stream_id, b"", self._data_fin)


def _broken(how: str) -> RemoteProtocolError:
    return RemoteProtocolError(how, GoAwayCode.PROTOCOL_ERROR)


def _words(name: str, payload: bytes) -> tuple[int, int]:
    if len(payload) != _TWO_WORDS.size:
        raise _broken(f"{name} has {len(payload)} bytes, not 8")
    first, second = _TWO_WORDS.unpack(payload)
    return first & MAX_STREAM_ID, second


def _stream_and_headers(name: str, headers: HeaderDecompressor, payload: bytes, offset: int) -> tuple[int, dict[str, str]]:
    if len(payload) < offset:
        raise _broken(f"{name} has {len(payload)} bytes, fewer than {offset}")
    # The block is decoded whatever follows: the compressed stream is shared by all blocks.
    decoded = headers.decompress(payload[offset:])
    (stream_id,) = _WORD.unpack_from(payload)
    if not stream_id & MAX_STREAM_ID:
        raise _broken(f"{name} is for stream 0")
    return stream_id & MAX_STREAM_ID, decoded


def _parse_syn_stream(headers: HeaderDecompressor, payload: bytes, flags: int) -> Frame:
    stream_id, decoded = _stream_and_headers("SYN_STREAM", headers, payload, _SYN_STREAM.size)
    return SynStream(stream_id, decoded, bool(flags & FLAG_FIN), bool(flags & FLAG_UNIDIRECTIONAL))


def _parse_syn_reply(headers: HeaderDecompressor, payload: bytes, flags: int) -> Frame:
    stream_id, decoded = _stream_and_headers("SYN_REPLY", headers, payload, _WORD.size)
    return SynReply(stream_id, decoded, bool(flags & FLAG_FIN))


def _parse_headers(headers: HeaderDecompressor, payload: bytes, flags: int) -> Frame:
    stream_id, decoded = _stream_and_headers("HEADERS", headers, payload, _WORD.size)
    return MoreHeaders(stream_id, decoded, bool(flags & FLAG_FIN))


def _parse_rst_stream(_: HeaderDecompressor, payload: bytes, __: int) -> Frame:
    stream_id, code = _words("RST_STREAM", payload)
    if not stream_id or not code:
        raise _broken(f"RST_STREAM is for stream {stream_id} with code {code}")
    return RstStream(stream_id, code)


def _parse_settings(_: HeaderDecompressor, payload: bytes, __: int) -> Frame:
    if len(payload) < _WORD.size:
        raise _broken(f"SETTINGS has {len(payload)} bytes, fewer than 4")
    (count,) = _WORD.unpack_from(payload)
    if len(payload) != _WORD.size + count * _TWO_WORDS.size:
        raise _broken(f"SETTINGS announces {count} values in {len(payload)} bytes")
    # The upper byte of the number holds flags about persistence, which concern a browser.
    pairs = _TWO_WORDS.iter_unpack(memoryview(payload)[_WORD.size :])
    return Settings({number & 0xFFFFFF: value for number, value in pairs})


def _parse_ping(_: HeaderDecompressor, payload: bytes, __: int) -> Frame:
    if len(payload) != _WORD.size:
        raise _broken(f"PING has {len(payload)} bytes, not 4")
    return Ping(_WORD.unpack(payload)[0])


def _parse_goaway(_: HeaderDecompressor, payload: bytes, __: int) -> Frame:
    return GoAway(*_words("GOAWAY", payload))


def _parse_window_update(_: HeaderDecompressor, payload: bytes, __: int) -> Frame:
    stream_id, delta = _words("WINDOW_UPDATE", payload)
    return WindowUpdate(stream_id, delta & MAX_STREAM_ID)


_PARSERS: dict[int, Callable[[HeaderDecompressor, bytes, int], Frame]] = {
    FrameType.SYN_STREAM: _parse_syn_stream,
    FrameType.SYN_REPLY: _parse_syn_reply,
    FrameType.RST_STREAM: _parse_rst_stream,
    FrameType.SETTINGS: _parse_settings,
    FrameType.PING: _parse_ping,
    FrameType.GOAWAY: _parse_goaway,
    FrameType.HEADERS: _parse_headers,
    FrameType.WINDOW_UPDATE: _parse_window_update,
}


def data_header(stream_id: int, length: int, *, fin: bool) -> bytes:
    """The eight bytes before `length` bytes of DATA."""
    return _HEADER.pack(stream_id, (FLAG_FIN << 24 if fin else 0) | length)


def _control(kind: FrameType, payload: bytes, flags: int = 0) -> bytes:
    return _HEADER.pack(0x80000000 | VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def serialize(frame: Frame, headers: HeaderCompressor) -> bytes:
    """The bytes of a frame. One with headers must be sent before the next one with headers is serialized."""
    match frame:
        case Data(stream_id, data, fin):
            return data_header(stream_id, len(data), fin=fin) + data
        case SynStream(stream_id, values, fin, unidirectional):
            flags = (FLAG_FIN if fin else 0) | (FLAG_UNIDIRECTIONAL if unidirectional else 0)
            return _control(FrameType.SYN_STREAM, _SYN_STREAM.pack(stream_id, 0, 0, 0) + headers.compress(values), flags)
        case SynReply(stream_id, values, fin):
            return _control(FrameType.SYN_REPLY, _WORD.pack(stream_id) + headers.compress(values), FLAG_FIN if fin else 0)
        case MoreHeaders(stream_id, values, fin):
            return _control(FrameType.HEADERS, _WORD.pack(stream_id) + headers.compress(values), FLAG_FIN if fin else 0)
        case RstStream(stream_id, code):
            return _control(FrameType.RST_STREAM, _TWO_WORDS.pack(stream_id, code))
        case Settings(values):
            pairs = b"".join(_TWO_WORDS.pack(number, value) for number, value in values.items())
            return _control(FrameType.SETTINGS, _WORD.pack(len(values)) + pairs)
        case Ping(ping_id):
            return _control(FrameType.PING, _WORD.pack(ping_id))
        case GoAway(last_stream_id, code):
            return _control(FrameType.GOAWAY, _TWO_WORDS.pack(last_stream_id, code))
        case WindowUpdate(stream_id, delta):
            return _control(FrameType.WINDOW_UPDATE, _TWO_WORDS.pack(stream_id, delta))
