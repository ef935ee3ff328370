"""ttrpc frames: ten bytes of header, then a protobuf message. No I/O.

    length (4, big-endian) | stream (4, big-endian) | kind (1) | flags (1) | data

A call is one request and one response with the same stream number, odd because the caller is always the ttrpc client.
Streams of several messages exist in the protocol and not in NRI. Rules: containerd/ttrpc, PROTOCOL.md.
"""

import struct
from dataclasses import dataclass

from crid.wire.protocol import RemoteProtocolError

HEADER = struct.Struct(">IIBB")
MAX_DATA = 4 << 20
"""Bytes of data in one frame; more is refused by every implementation."""

OK, UNKNOWN, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 0, 2, 3, 8, 12
"""The status codes that crid gives or heeds: gRPC's."""

REQUEST = 1
RESPONSE = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a stream."""

    stream: int
    kind: int
    data: bytes
    flags: int = 0


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes. Raises ValueError if its data is too long for one."""
    if len(frame.data) > MAX_DATA:
        raise ValueError(f"a ttrpc message has {len(frame.data)} bytes, {MAX_DATA} are allowed")
    return HEADER.pack(len(frame.data), frame.stream, frame.kind, frame.flags) + frame.data


class FrameReader:
    """Puts frames together out of bytes cut anywhere."""

    def __init__(self) -> None:
        self._held = bytearray()

    def __repr__(self) -> str:
        return f"<FrameReader held={len(self._held)}>"

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that these bytes complete. Raises RemoteProtocolError for one that is too long."""
        self._held += data
        frames = []
        while len(self._held) >= HEADER.size:
            length, stream, kind, flags = HEADER.unpack_from(self._held)
            if length > MAX_DATA:
                raise RemoteProtocolError(f"a ttrpc frame of {length} bytes, {MAX_DATA} are allowed", RESOURCE_EXHAUSTED)
            end = HEADER.size + length
            if len(self._held) < end:
                break
            frames.append(Frame(stream, kind, bytes(self._held[HEADER.size : end]), flags))
            del self._held[:end]
        return frames
