"""Reading and writing descriptors on the event loop: no threads, no buffers that outlive the call.

Each function borrows the descriptor; closing it stays with its owner. Writers need it non-blocking.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import sys
import termios
from collections.abc import Awaitable, Callable, Iterator

CHUNK = 64 * 1024
HELD = 1024 * 1024
"""Bytes that a terminal or an unprivileged writer's pipe can hold at the most (pipe(7))."""


async def wait_readable(descriptor: int) -> None:
    """Return when a read of `descriptor` would not block."""
    loop = asyncio.get_running_loop()
    await _wait(descriptor, loop.add_reader, loop.remove_reader)


async def wait_writable(descriptor: int) -> None:
    """Return when a write to `descriptor` would not block."""
    loop = asyncio.get_running_loop()
    await _wait(descriptor, loop.add_writer, loop.remove_writer)


async def _wait(descriptor: int, add: Callable[..., None], remove: Callable[[int], object]) -> None:
    ready = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, wake)
    try:
        await ready
    finally:
        remove(descriptor)


async def read(descriptor: int, size: int = CHUNK) -> bytes:
    """Return what there is, at most `size` bytes, as soon as there is something; empty at the stream's end."""
    while True:
        await wait_readable(descriptor)
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            continue  # somebody else was faster


async def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`. Raises BrokenPipeError if nobody reads any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await wait_writable(descriptor)


async def drain(descriptor: int, sink: Callable[[bytes], Awaitable[None]], ended: asyncio.Event) -> None:
    """Pass what is read from the non-blocking `descriptor` to `sink` until the stream ends.

    Once `ended` is set, an empty pipe counts as its end too, and so does the last of what it can have held then: somebody may
    keep the other side open, or write to it, for ever.
    """
    left: int | None = None
    while left is None or left > 0:
        if left is None and ended.is_set():
            left = max(HELD, _readable_bytes(descriptor))
        try:
            chunk = os.read(descriptor, CHUNK)
        except BlockingIOError:
            if ended.is_set():
                return
            await _readable_or(descriptor, ended)
            continue
        except OSError as error:
            if error.errno != errno.EIO:  # a pty whose other side is closed (pty(7))
                raise
            return
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        await sink(chunk)


def _readable_bytes(descriptor: int) -> int:
    """Return how much is there to be read; of a terminal it may be less than has been written (ioctl_tty(2), FIONREAD)."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


async def _readable_or(descriptor: int, ended: asyncio.Event) -> None:
    """Return when `descriptor` is readable or `ended` is set."""
    async with asyncio.TaskGroup() as group:
        either = asyncio.Event()
        tasks = [group.create_task(_then(waiting, either)) for waiting in (wait_readable(descriptor), ended.wait())]
        await either.wait()
        for task in tasks:
            task.cancel()


async def _then(waiting: Awaitable[object], event: asyncio.Event) -> None:
    await waiting
    event.set()


@contextlib.contextmanager
def closing(*descriptors: int) -> Iterator["Descriptors"]:
    """Own `descriptors` for the block: close at its end those not closed earlier through the yielded object."""
    owned = Descriptors(descriptors)
    try:
        yield owned
    finally:
        owned.close_all()


class Descriptors:
    """Descriptors with one owner; each is closed exactly once, since a closed number may be another file's soon."""

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._open = set(descriptors)

    def add(self, descriptor: int) -> int:
        """Take over `descriptor` and return it."""
        self._open.add(descriptor)
        return descriptor

    def close(self, *descriptors: int) -> None:
        """Close those of `descriptors` that are still open."""
        for descriptor in self._open.intersection(descriptors):
            self._open.discard(descriptor)
            os.close(descriptor)

    def close_all(self) -> None:
        """Close whatever is still open."""
        self.close(*self._open)
