"""The free space of a file system, shared out among those who are about to fill it.

statvfs(2) knows nothing of what running pulls have yet to write. Each of them reserves that first; what it writes is then
taken from its reservation, since it is missing from the free space by itself. Two who need the same thing reserve it once: one
of them will make it.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crid.errors import ResourceExhaustedError


@dataclass(slots=True)
class _Reserved:
    left: int
    holders: int = 0


def blob_key(digest: str) -> str:
    """Return what a blob is reserved as."""
    return f"blob {digest}"


def layer_key(chain_id: str) -> str:
    """Return what an unpacked layer is reserved as; the lowest one may have the digest of its blob."""
    return f"layer {chain_id}"


class Room:
    """The room below `directory`. Any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._reserved: dict[str, _Reserved] = {}

    def __repr__(self) -> str:
        return f"<Room {self._directory} reserved={self.reserved()}>"

    def reserved(self) -> int:
        """Return how many bytes are yet to be written."""
        return sum(one.left for one in self._reserved.values())

    @contextlib.contextmanager
    def reserve(self, what: str, needs: Mapping[str, int]) -> Iterator[None]:
        """Keep room for the block: so many bytes for each thing that is to be made.

        Raises ResourceExhaustedError beginning with `what` if there is not enough, OSError.
        """
        with self._lock:
            needed = sum(size for key, size in needs.items() if key not in self._reserved)
            others = self.reserved()
            status = os.statvfs(self._directory)
            free = status.f_bavail * status.f_frsize
            if needed > free - others:
                besides = f", and {others} of them are for others that are on their way" if others else ""
                raise ResourceExhaustedError(
                    f"{what}: needs at least {needed} bytes in {self._directory}, {free} are free{besides}"
                )
            for key, size in needs.items():
                self._reserved.setdefault(key, _Reserved(size)).holders += 1
        try:
            yield
        finally:
            with self._lock:
                for key in needs:
                    reserved = self._reserved[key]
                    reserved.holders -= 1
                    if not reserved.holders:
                        del self._reserved[key]

    def written(self, size: int, *keys: str) -> None:
        """Note that `size` bytes more of each of the things `keys` are on the disk."""
        with self._lock:
            for key in keys:
                if (reserved := self._reserved.get(key)) is not None:
                    reserved.left = max(0, reserved.left - size)
