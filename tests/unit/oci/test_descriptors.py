"""Descriptors on the event loop."""

import asyncio
import fcntl
import os
from collections.abc import Iterator

import pytest

from crid.oci import descriptors
from tests.harness.tools import PATIENCE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with descriptors.closing(read, write):
        yield read, write


class Kept(bytearray):
    async def take(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.extend(data)


async def test_more_than_a_pipe_holds(pipe: tuple[int, int]) -> None:
    read, write = pipe
    data, kept, ended = os.urandom(300_000), Kept(), asyncio.Event()

    async def fill() -> None:
        await descriptors.write_all(write, data)
        ended.set()

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(fill())
        group.create_task(descriptors.drain(read, kept.take, ended))
    assert bytes(kept) == data


async def test_drain_stops_at_an_empty_pipe_only_when_told(pipe: tuple[int, int]) -> None:
    read, write = pipe
    kept, ended = Kept(), asyncio.Event()
    work = asyncio.create_task(descriptors.drain(read, kept.take, ended))
    await asyncio.sleep(0.02)
    os.write(write, b"late")
    await asyncio.sleep(0.02)
    assert not work.done()
    ended.set()
    await asyncio.wait_for(work, PATIENCE)
    assert bytes(kept) == b"late"


async def test_drain_does_not_follow_who_goes_on_writing(pipe: tuple[int, int]) -> None:
    """A grandchild of the command that has ended."""
    read, write = pipe
    kept, ended = Kept(), asyncio.Event()

    async def take(data: bytes) -> None:
        await kept.take(data)
        assert len(kept) < 3 * descriptors.HELD, "it goes on and on"
        os.write(write, data)  # so that the pipe is never empty

    os.write(write, bytes(1000))
    ended.set()
    await asyncio.wait_for(descriptors.drain(read, take, ended), PATIENCE)
    assert len(kept) >= descriptors.HELD


async def test_drain_passes_on_all_that_a_pipe_held_at_the_end(pipe: tuple[int, int]) -> None:
    read, write = pipe
    size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, descriptors.HELD)
    data, kept, ended = os.urandom(size), Kept(), asyncio.Event()
    assert os.write(write, data) == size
    ended.set()
    await asyncio.wait_for(descriptors.drain(read, kept.take, ended), PATIENCE)
    assert bytes(kept) == data


@pytest.mark.parametrize("told", [False, True])
async def test_drain_of_a_closed_terminal(*, told: bool) -> None:
    ended = asyncio.Event()
    if told:
        ended.set()
    master, slave = os.openpty()
    with descriptors.closing(master, slave) as ours:
        os.set_blocking(master, False)
        os.write(slave, b"x")
        ours.close(slave)
        kept = Kept()
        await asyncio.wait_for(descriptors.drain(master, kept.take, ended), PATIENCE)
    assert bytes(kept) == b"x"


async def test_write_to_nobody(pipe: tuple[int, int]) -> None:
    lonely_read, lonely_write = os.pipe2(os.O_NONBLOCK)
    os.close(lonely_read)
    with descriptors.closing(lonely_write), pytest.raises(BrokenPipeError):
        await descriptors.write_all(lonely_write, b"x")


def test_each_is_closed_once() -> None:
    read, write = os.pipe()
    with descriptors.closing(read) as ours:
        ours.add(write)
        ours.close(read)
        reused = os.dup(write)  # very likely the number that was just closed
        ours.close(read)
    os.close(reused)  # still open: nobody closed it in our stead
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(write)
