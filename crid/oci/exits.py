"""How containers' ends become known: the files that monitors leave.

A monitor writes the exit code twice, each time by rename: `exit` in the container's persistent directory, which stays,
and a file named by the container's id in the exits directory, which is the notice to the daemon and is removed once it
was dealt with. An `oom` file in the persistent directory says that the kernel killed something for lack of memory.

No notice is lost: what was there before the watch began or arrived while the event queue ran over is found by reading
the directory again, at the beginning and every RESCAN seconds. A notice is removed when its reader comes back for the
next one; if the daemon dies before that, it is yielded again. So is one that is all there is, since the persistent
directory's disk was full or read-only, until the container is removed. A daemon that is out of descriptors or memory has
read nothing: it looks again, since an exit code that is made up stays.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from crid.linux import inotify
from crid.linux.files import says_nothing
from crid.log import fields
from crid.model.container import EXIT_CODE_UNKNOWN, Container
from crid.wire.conmon import ConmonProtocolError, parse_exit_file

logger = logging.getLogger(__name__)

RESCAN = 30.0
MAXIMUM_SIZE = 64
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Exit:
    """A container has ended. `finished_at` is nanoseconds since the epoch: when the monitor wrote it down."""

    container_id: str
    exit_code: int
    finished_at: int
    oom_killed: bool = False


def read_exit(container: Container) -> Exit | None:
    """Return how `container` ended by the copy in its persistent directory, None if there is none (yet).

    A damaged copy still tells that and when it ended; its exit code is then EXIT_CODE_UNKNOWN.
    """
    record = _read(container.metadata.persist_directory / "exit")
    return None if record is None else Exit(container.id, *record, _oom_killed(container))


def _oom_killed(container: Container) -> bool:
    """Whether the monitor saw an OOM kill; some monitors write the mark into the bundle only."""
    return _is_there(container.metadata.persist_directory / "oom") or _is_there(container.metadata.bundle / "oom")


def _is_there(path: Path) -> bool:
    """Whether there is such a file; of a disk that fails nothing is known to be there."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _read(path: Path) -> tuple[int, int] | None:
    """Return the exit code and the modification time of an exit file, None if there is none or it cannot be read now."""
    try:
        with open(path, "rb", opener=_open_unsuspecting) as file:
            content, status = file.read(MAXIMUM_SIZE), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.error("unreadable exit file%s", fields(path=path, error=error))
        return None if says_nothing(error) else (EXIT_CODE_UNKNOWN, time.time_ns())
    try:
        return parse_exit_file(content), status.st_mtime_ns
    except ConmonProtocolError as error:
        logger.error("damaged exit file%s", fields(path=path, error=error))
        return EXIT_CODE_UNKNOWN, status.st_mtime_ns


def _open_unsuspecting(name: str, flags: int) -> int:
    """Open neither a link nor, for ever, a fifo that somebody put in a file's place."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


class Exits:
    """Yields the notices in the exits directory. Iterate over it in one task; `close` ends the iteration."""

    def __init__(self, directory: Path, find: Callable[[str], Container | None], *, rescan: float = RESCAN) -> None:
        """`directory` exists; `find` returns the container with an id; `rescan` is the longest time in seconds for which a
        lost event can go unnoticed."""
        self._directory = directory
        self._find = find
        self._rescan = rescan
        self._watcher = inotify.Watcher()
        self._closed = False
        self._next_scan = 0.0
        """When the directory is to be read again at the latest, in the event loop's time."""

    def __repr__(self) -> str:
        return f"<Exits {self._directory} {'closed' if self._closed else 'open'}>"

    def close(self) -> None:
        """End the iteration. Idempotent."""
        self._closed = True
        self._watcher.close()

    async def __aiter__(self) -> AsyncGenerator[Exit, None]:
        """Yield every notice, those that are there already first."""
        self._watcher.add(str(self._directory), inotify.IN_MOVED_TO | inotify.IN_CLOSE_WRITE | inotify.IN_ONLYDIR)
        names = self._names()
        while not self._closed:
            for name in names:
                if (found := self._notice(name)) is not None:
                    yield found
                    self._dealt_with(name)
            names = await self._changed()

    def _names(self) -> list[str]:
        """Return the ids that have notices, oldest first; none if that cannot be told now. Temporary names of monitors that are
        writing are no ids."""
        self._next_scan = asyncio.get_running_loop().time() + self._rescan
        try:
            with os.scandir(self._directory) as entries:
                found = [(entry.stat(follow_symlinks=False).st_mtime_ns, entry.name) for entry in entries if _is_id(entry.name)]
        except OSError as error:
            logger.error("notices of exits cannot be looked for%s", fields(directory=self._directory, error=error))
            return []
        return [name for _, name in sorted(found)]

    async def _changed(self) -> list[str]:
        """Wait for a notice and return the ids to look at: one, or all of them after a lost event or when it is time."""
        try:
            async with asyncio.timeout_at(self._next_scan):
                async for event in self._watcher:
                    if event.overflow or event.gone:
                        break
                    if _is_id(event.name):
                        return [event.name]
                else:
                    return []
        except TimeoutError:
            pass
        return self._names()

    def _dealt_with(self, name: str) -> None:
        """Remove the notice, unless something would be lost without it. One that cannot be removed is yielded again."""
        container = self._find(name)
        if container is not None and not _is_there(container.metadata.persist_directory / "exit"):
            return
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            logger.error("a notice of an exit cannot be removed%s", fields(path=self._directory / name, error=error))

    def _notice(self, name: str) -> Exit | None:
        record = _read(self._directory / name)
        if record is None:
            return None  # read already: one rename, two events; or to be read later
        container = self._find(name)
        return Exit(name, *record, container is not None and _oom_killed(container))


def _is_id(name: str) -> bool:
    return _IDENTIFIER.fullmatch(name) is not None
