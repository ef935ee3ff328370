"""What an unpacked layer may be at most: a guard against archives made to fill a disk or a directory.

The limits are far beyond what images are like, and configurable. They count what comes out of the decompressor, so a
stream is stopped while it is read, and what it has unpacked by then is removed.
"""

from dataclasses import dataclass

from crid.errors import InvalidArgumentError
from crid.image.compression import Hashed

_RATIO_FROM = 1 << 30


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """Bytes, members of the archive, and unpacked bytes a compressed one (counted from 1 GiB on). 0 is no limit."""

    size: int = 0
    entries: int = 0
    ratio: int = 0

    def bytes_of(self, compressed: int) -> int:
        """Return how many bytes a blob of `compressed` bytes may unpack to; 0 for no limit."""
        by_ratio = max(_RATIO_FROM, self.ratio * compressed) if self.ratio and compressed else 0
        return min(filter(None, (self.size, by_ratio)), default=0)


NO_LIMITS = LayerLimits()


class Limited:
    """A layer's plain bytes, as long as they keep to the limits. `compressed` is the size of its blob, 0 if not known."""

    def __init__(self, source: Hashed, limits: LayerLimits, compressed: int = 0) -> None:
        self._source = source
        self._bytes = limits.bytes_of(compressed)
        self._entries = limits.entries
        self._members = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end. Raises InvalidArgumentError beyond the limit."""
        data = self._source.read(size)
        if self._bytes and self._source.size > self._bytes:
            raise InvalidArgumentError(f"layer: unpacks to more than {self._bytes} bytes")
        return data

    def count_member(self) -> None:
        """Count a member of the archive. Raises InvalidArgumentError beyond the limit."""
        self._members += 1
        if self._entries and self._members > self._entries:
            raise InvalidArgumentError(f"layer: has more than {self._entries} entries")
