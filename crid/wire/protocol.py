"""Whose fault a broken protocol is.

Every decoder in `crid.wire` that faces a network peer tells two failures apart. A LocalProtocolError is a fault of
crid: the caller asked for an illegal move, nothing was changed, and nothing was sent. A RemoteProtocolError is the
peer's: it comes out as an event, after the bytes that tell the peer so have been queued.
"""

from crid.errors import CridError


class LocalProtocolError(CridError):
    """crid tried to send what the protocol does not allow in this state; the state is as before."""


class RemoteProtocolError(CridError):
    """The peer sent what the protocol does not allow. `code` is the protocol's own number for it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
