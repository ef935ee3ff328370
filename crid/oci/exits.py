"""How containers' ends become known: the files that monitors leave.

A monitor writes the exit code twice, each time by rename: `exit` in the container's persistent directory, which stays,
and a file named by the container's id in the exits directory, which is the notice to the daemon and is removed once it
was dealt with. An `oom` file in the persistent directory says that the kernel killed something for lack of memory.

No notice is lost: what was there before the watch began, what arrived while the event queue ran over and what was not
acknowledged is found by reading the directory again, at the beginning and every RESCAN seconds. A notice may therefore
be seen twice; until it is acknowledged it is yielded once a scan at most.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from crid.errors import CridError, DataLossError
from crid.linux import inotify
from crid.log import fields
from crid.model.container import Container
from crid.model.ids import short
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

    Raises DataLossError if the file is damaged: the end is known, its code is not.
    """
    directory = container.metadata.persist_directory
    record = _read(directory / "exit")
    if record is None:
        return None
    code, finished_at = record
    return Exit(container.id, code, finished_at, _oom_killed(container))


def _oom_killed(container: Container) -> bool:
    """Whether the monitor saw an OOM kill; it writes the mark in the persistent directory, older ones in the bundle only."""
    return (container.metadata.persist_directory / "oom").exists() or (container.metadata.bundle / "oom").exists()


def _read(path: Path) -> tuple[int, int] | None:
    """Return the exit code and the modification time of an exit file, None if there is no such file."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            content, status = file.read(MAXIMUM_SIZE), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataLossError(f"exit file {path}: {error.strerror}") from error
    try:
        return parse_exit_file(content), status.st_mtime_ns
    except ConmonProtocolError as error:
        raise DataLossError(f"exit file {path}: {error}") from error


class Exits:
    """Yields the notices in the exits directory."""

    def __init__(self, directory: Path, *, rescan: float = RESCAN) -> None:
        """`directory` exists; `rescan` is the longest time in seconds that a lost event can stay unnoticed."""
        self._directory = directory
        self._rescan = rescan
        self._watcher: inotify.Watcher | None = None

    def __repr__(self) -> str:
        return f"<Exits {self._directory} watching={self._watcher is not None}>"

    async def __aiter__(self) -> AsyncIterator[Exit]:
        """Yield every notice, the ones that are there already first. Ends when `close` is called.

        Without inotify (its limits are per user and may be used up) the periodic scan alone finds them. A damaged notice
        is logged, yielded with exit code -1 and stays until it is acknowledged.
        """
        self._watcher = watcher = self._watch()
        try:
            for name in self._names():
                if (found := self._notice(name)) is not None:
                    yield found
            async for name in self._changes(watcher):
                for changed in self._names() if name is None else [name]:
                    if (found := self._notice(changed)) is not None:
                        yield found
        finally:
            watcher.close()
            self._watcher = None
