"""Configuration files that may change under a running daemon, parsed again only when they have.

What decides is stat(2): the times, sizes and inodes of the files and of the directories that are searched for more of
them. A call that finds nothing changed costs one stat a path, some microseconds, and so fits on the path of a container's
creation. A parser's error is not kept: it is raised at each call until the file is mended.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

Signature = tuple[tuple[int, int, int] | None, ...]


class Reread(Generic[T]):
    """What `read` makes of the files that `paths` lists (directories that it searches first; some may not exist)."""

    def __init__(self, paths: Callable[[], Sequence[Path]], read: Callable[[], T]) -> None:
        self._paths = paths
        self._read = read
        self._watched: tuple[Path, ...] = ()
        self._seen: Signature = ()
        self._value: T | None = None

    def get(self) -> T:
        """Return the value of the files as they are now. Raises what `read` raises."""
        if self._value is not None and _signature(self._watched) == self._seen:
            return self._value
        self._value = None
        watched = tuple(self._paths())
        seen = _signature(watched)
        value = self._read()
        if tuple(self._paths()) == watched:  # else a file has just come or gone: the next call reads again
            self._watched, self._seen, self._value = watched, seen, value
        return value


def drop_ins(directory: Path, pattern: str) -> list[Path]:
    """Return the files in `directory` that match `pattern`, in the order of their names; none if it cannot be searched."""
    return sorted(path for path in directory.glob(pattern) if path.is_file())


def _signature(paths: Sequence[Path]) -> Signature:
    """Return what tells whether one of `paths` has changed."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
