"""What a client has sent and nobody has taken yet: bytes for a process or a port, and sizes for a terminal.

Neither bounds itself. The wire session does: bytes count against the stream's window until they are acknowledged, which
happens when the taker comes back for more. Of sizes only the last one matters.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

JOINED = 4096
"""Bytes up to which what waits is joined: many small chunks would cost far more memory than the window counts."""


class Inflow:
    """Bytes in order, then an end. `acknowledge` is told how many bytes have been taken."""

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        self._acknowledge = acknowledge
        self._chunks: deque[bytes] = deque()
        self.ended = False
        """Whether the client sends no more."""
        self._dropping = False
        self._more = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Add what the client sent."""
        if self._dropping:
            self._acknowledge(len(data))
            return
        if self._chunks and len(self._chunks[-1]) + len(data) <= JOINED:
            self._chunks[-1] += data
        else:
            self._chunks.append(data)
        self._more.set()

    def end(self) -> None:
        """The client sends no more."""
        self.ended = True
        self._more.set()

    def drop(self) -> None:
        """Nobody takes any more: give back what there is, and what is still to come."""
        self._dropping = True
        waiting = sum(map(len, self._chunks))
        self._chunks.clear()
        if waiting:
            self._acknowledge(waiting)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes; a chunk is acknowledged when the next one is asked for."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                try:
                    yield chunk
                finally:
                    self._acknowledge(len(chunk))
            if self.ended:
                return
            self._more.clear()
            await self._more.wait()


class Sizes:
    """The size of the client's terminal, (width, height) in characters, each time it has changed."""

    def __init__(self) -> None:
        self._latest: tuple[int, int] | None = None
        self._changed = asyncio.Event()

    def feed(self, width: int, height: int) -> None:
        """Replace the size by a newer one."""
        self._latest = width, height
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[tuple[int, int]]:
        """Yield each size that was not overtaken by a newer one."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if (size := self._latest) is not None:
                yield size
