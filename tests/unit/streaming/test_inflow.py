"""What a client has sent: order, end, and when it is given back."""

import asyncio
from collections.abc import AsyncIterator

from crid.streaming.inflow import JOINED, Inflow, Sizes


async def test_a_chunk_is_acknowledged_when_the_next_is_asked_for() -> None:
    acknowledged: list[int] = []
    inflow = Inflow(acknowledged.append)
    inflow.feed(b"abc")
    chunks = aiter(inflow)
    assert await anext(chunks) == b"abc"
    inflow.feed(b"de")
    assert acknowledged == []
    assert await anext(chunks) == b"de"
    assert acknowledged == [3]
    inflow.end()
    assert [chunk async for chunk in chunks] == []
    assert acknowledged == [3, 2]


async def test_small_chunks_that_wait_are_joined_and_large_ones_are_not() -> None:
    """A window's worth of single bytes would take many times the window in single objects."""
    acknowledged: list[int] = []
    inflow = Inflow(acknowledged.append)
    sent = [b"ab"] * JOINED + [b"c" * JOINED] * 2
    for data in sent:
        inflow.feed(data)
    inflow.end()
    taken = await _all(inflow)
    assert [len(chunk) for chunk in taken] == [JOINED] * 4
    assert b"".join(taken) == b"".join(sent)
    assert acknowledged == [JOINED] * 4


async def test_who_waits_is_woken_by_data_and_by_the_end() -> None:
    inflow = Inflow(lambda count: None)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_all(inflow))
        await asyncio.sleep(0)
        inflow.feed(b"x")
        await asyncio.sleep(0)
        inflow.end()
    assert reading.result() == [b"x"]


async def _all(inflow: Inflow) -> list[bytes]:
    return [chunk async for chunk in inflow]


async def test_what_is_dropped_is_given_back_also_if_it_comes_later() -> None:
    acknowledged: list[int] = []
    inflow = Inflow(acknowledged.append)
    inflow.feed(b"abc")
    inflow.drop()
    inflow.feed(b"later")
    assert acknowledged == [3, 5]


async def test_of_sizes_only_the_last_counts() -> None:
    sizes = Sizes()
    sizes.feed(1, 2)
    sizes.feed(3, 4)
    found = aiter(sizes)
    assert await anext(found) == (3, 4)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_next(found))
        await asyncio.sleep(0)
        sizes.feed(5, 6)
    assert waiting.result() == (5, 6)


async def _next(sizes: AsyncIterator[tuple[int, int]]) -> tuple[int, int]:
    return await anext(sizes)
