import asyncio

import pytest

from crid.image.feed import Feed


async def test_everything_arrives_in_order() -> None:
    feed = Feed(limit=10)

    def collect() -> bytes:
        return b"".join(iter(lambda: feed.read(3), b""))

    reader = asyncio.get_running_loop().run_in_executor(None, collect)
    chunks = [bytes([number]) * (number % 7) for number in range(200)]
    for chunk in chunks:
        await feed.put(chunk)
    feed.finish()
    assert await reader == b"".join(chunks)


async def test_the_writer_waits_for_room() -> None:
    feed = Feed(limit=10)
    await feed.put(b"x" * 9)
    waiting = asyncio.get_running_loop().create_task(feed.put(b"y" * 5))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert await asyncio.to_thread(feed.read, 100) == b"x" * 9
    await waiting
    assert "waiting=5" in repr(feed)


async def test_a_reader_that_leaves_frees_the_writer() -> None:
    feed = Feed(limit=1)
    waiting = asyncio.get_running_loop().create_task(feed.put(b"xx"))
    await asyncio.sleep(0)
    await asyncio.to_thread(feed.close)
    await waiting
    await feed.put(b"more")
    assert feed.closed


async def test_a_failure_reaches_the_reader() -> None:
    feed = Feed()
    await feed.put(b"x")
    feed.fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(feed.read, 1)
