"""File events for the event loop: inotify(7) without a thread.

A queue that ran over is an event of its own, never an error and never silent: whoever mirrors a directory must then read
it anew.
"""

import asyncio
import os
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from crid.linux.libc import call

IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000

_HEADER = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to `name` in the watched `path`; `name` is empty if it happened to `path` itself."""

    path: str
    name: str
    mask: int

    @property
    def overflow(self) -> bool:
        """Whether the queue ran over: any number of events of any watch are lost. `path` is empty."""
        return bool(self.mask & IN_Q_OVERFLOW)

    @property
    def gone(self) -> bool:
        """Whether the watch has ended, since its file was removed or its file system unmounted."""
        return bool(self.mask & IN_IGNORED)


class Watcher:
    """Watches files and directories. Iterate over it in one task; `close` ends the iteration."""

    def __init__(self) -> None:
        """Raises OSError; EMFILE if the user has too many watchers (fs.inotify.max_user_instances)."""
        self._descriptor = call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        self._paths: dict[int, str] = {}
        self._events: deque[Event] = deque()
        self._wake: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Watcher {'closed' if self._descriptor < 0 else 'open'} paths={sorted(self._paths.values())}>"

    def add(self, path: str, mask: int) -> None:
        """Watch `path` for the events in `mask`; a second call for the same file replaces its mask.

        Raises OSError naming the path; ENOSPC if the user has too many watches.
        """
        self._paths[call("inotify_add_watch", self._descriptor, path, mask, path=path)] = path

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._descriptor < 0:
                raise StopAsyncIteration
            await self._readable()
            if self._descriptor >= 0:
                self._read()
        return self._events.popleft()

    def close(self) -> None:
        """Stop watching; events that were read already are still delivered. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if self._wake is not None:
            self._wake.get_loop().remove_reader(descriptor)
            self._set_awake()
        os.close(descriptor)

    async def _readable(self) -> None:
        if self._wake is not None:
            raise RuntimeError("two tasks iterate over one Watcher")
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        loop.add_reader(self._descriptor, self._set_awake)
        try:
            await self._wake
        finally:
            self._wake = None
            if self._descriptor >= 0:
                loop.remove_reader(self._descriptor)

    def _set_awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _read(self) -> None:
        try:
            content = os.read(self._descriptor, _BUFFER_SIZE)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(content):
            watch, mask, _, length = _HEADER.unpack_from(content, offset)
            offset += _HEADER.size
            name = content[offset : offset + length].rstrip(b"\0")
            offset += length
            path = self._paths.pop(watch, "") if mask & IN_IGNORED else self._paths.get(watch, "")
            self._events.append(Event(path, os.fsdecode(name), mask))
