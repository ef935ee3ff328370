"""SPDY/3.1 without I/O: `headers` (compression), `frames` (bytes), `stream` (state table), `connection` (the whole)."""

from crid.wire.spdy.connection import Limits, Role, SpdyConnection
from crid.wire.spdy.frames import GoAwayCode, ResetCode
from crid.wire.spdy.stream import Half

__all__ = ["GoAwayCode", "Half", "Limits", "ResetCode", "Role", "SpdyConnection"]
