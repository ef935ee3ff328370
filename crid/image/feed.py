"""Bytes on their way from the event loop, which downloads, to a thread, which verifies and unpacks.

Bounded: when the thread is behind, the download waits, so a pull's memory does not depend on the size of a layer. Either
side may end it: the loop with `finish` or `fail`, the thread with `close`, after which what is put is dropped.
"""

import asyncio
import threading
from collections import deque

_LIMIT = 2 << 20
"""Bytes that may wait for the thread."""


class Feed:
    """One writer on the event loop, one reader on a thread. Made on the event loop."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._error: BaseException | None = None
        self._finished = False
        self.closed = False
        """Whether the reader wants no more."""

    def __repr__(self) -> str:
        return f"<Feed waiting={self._size} finished={self._finished} closed={self.closed}>"

    async def put(self, chunk: bytes) -> None:
        """Hand `chunk` over; wait while there is too much already."""
        with self._changed:
            if self.closed or not chunk:
                return
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._changed.notify()
            if self._size < self._limit:
                return
            self._room.clear()
        await self._room.wait()

    def finish(self) -> None:
        """Say that all has been put."""
        with self._changed:
            self._finished = True
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Let the reader's next read raise `error`."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as there are any, none at the end. For the thread.

        Raises what `fail` was given.
        """
        with self._changed:
            while not self._chunks and not self._finished and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            was_full = self._size >= self._limit
            self._size -= len(chunk)
            if was_full and self._size < self._limit:
                self._loop.call_soon_threadsafe(self._room.set)
        return chunk

    def close(self) -> None:
        """Drop what waits and what will be put. For the thread, when it ends."""
        with self._changed:
            self.closed = True
            self._chunks.clear()
            self._size = 0
            self._loop.call_soon_threadsafe(self._room.set)
