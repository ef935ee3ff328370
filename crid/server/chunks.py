"""Lists in pieces: what the six Stream* RPCs have in common (KEP-5825).

The list is chosen when the call begins, and each item of it is sent once. A stream ends only after its last piece; one that
is broken off by either side ends with an error, so that nobody takes a part for the whole.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

ITEMS = 3000
"""The most items of a piece, as in CRI-O."""

BYTES = 1024 * 1024
"""A piece that has grown to so many bytes is sent. With an item of ordinary size on top it stays far below the 4 MiB that a
gRPC client takes unless told otherwise."""


def chunks(messages: Iterable[M]) -> Iterator[list[M]]:
    """Yield all `messages` in order, in lists that are never empty. They are taken one by one, as the pieces are asked for."""
    piece: list[M] = []
    size = 0
    for message in messages:
        length = message.ByteSize()
        if piece and (len(piece) == ITEMS or size + length > BYTES):
            yield piece
            piece, size = [], 0
        piece.append(message)
        size += length
    if piece:
        yield piece
