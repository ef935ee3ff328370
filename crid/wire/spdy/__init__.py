"""SPDY/3.1 without I/O: `headers` (compression), `frames`, `stream` (state table), `windows` and `connection`."""

from crid.wire.spdy.connection import Role, SpdyConnection
from crid.wire.spdy.frames import GoAwayCode, ResetCode
from crid.wire.spdy.stream import Half
from crid.wire.spdy.windows import Limits

__all__ = ["GoAwayCode", "Half", "Limits", "ResetCode", "Role", "SpdyConnection"]
