"""Several byte streams over one unix socket, as NRI does it. No I/O.

    connection (4, big-endian) | length (4, big-endian) | payload

Connection 1 carries calls to the plugin, 2 calls to the runtime. Where a payload ends means nothing to the stream, but it
does to the Go implementation: its ttrpc reader takes a payload in whole, into a buffer of 4096 bytes for what begins a
message and into the message's own for the rest. So a message is cut once, after 4096 bytes.
Rules: containerd/nri, pkg/net/multiplex.
"""

import struct

from crid.wire.protocol import RemoteProtocolError
from crid.wire.ttrpc import RESOURCE_EXHAUSTED

HEADER = struct.Struct(">II")
PLUGIN = 1
RUNTIME = 2

FIRST_CUT = 4096
MAX_PAYLOAD = (4 << 20) + 10
"""Bytes of one payload: the largest ttrpc message."""


def encode(connection: int, message: bytes) -> bytes:
    """Return the bytes that carry one whole ttrpc message."""
    parts = [message[:FIRST_CUT], message[FIRST_CUT:]]
    return b"".join(HEADER.pack(connection, len(part)) + part for part in parts if part)


class MuxReader:
    """Takes the socket's bytes apart, cut anywhere."""

    def __init__(self) -> None:
        self._held = bytearray()

    def __repr__(self) -> str:
        return f"<MuxReader held={len(self._held)}>"

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return (connection, payload) of what these bytes complete. Raises RemoteProtocolError for one that is too long."""
        self._held += data
        payloads = []
        while len(self._held) >= HEADER.size:
            connection, length = HEADER.unpack_from(self._held)
            if length > MAX_PAYLOAD:
                raise RemoteProtocolError(f"an NRI payload of {length} bytes, {MAX_PAYLOAD} are allowed", RESOURCE_EXHAUSTED)
            end = HEADER.size + length
            if len(self._held) < end:
                break
            payloads.append((connection, bytes(self._held[HEADER.size : end])))
            del self._held[:end]
        return payloads
