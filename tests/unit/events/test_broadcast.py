import asyncio

import pytest

from crid.errors import ResourceExhaustedError, UnavailableError
from crid.events.broadcast import Broadcast, Subscription
from tests.harness.tools import PATIENCE


async def read(subscription: Subscription[int], count: int) -> list[int]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(subscription) for _ in range(count)]


async def test_everyone_gets_every_item_once_and_in_order() -> None:
    numbers: Broadcast[int] = Broadcast()
    with numbers.subscribe() as early:
        numbers.publish(1)
        with numbers.subscribe() as late:
            numbers.publish(2)
            numbers.publish(3)
            assert await read(early, 3) == [1, 2, 3]
            assert await read(late, 2) == [2, 3]


async def test_a_reader_that_waits_is_woken() -> None:
    numbers: Broadcast[int] = Broadcast()
    with numbers.subscribe() as subscription:
        reading = asyncio.ensure_future(read(subscription, 2))
        await asyncio.sleep(0)
        numbers.publish(1)
        await asyncio.sleep(0)
        numbers.publish(2)
        assert await reading == [1, 2]


async def test_who_does_not_keep_up_is_dropped_and_told_so_and_nobody_else_notices() -> None:
    numbers: Broadcast[int] = Broadcast(capacity=3)
    with numbers.subscribe() as slow, numbers.subscribe() as quick:
        for number in range(5):
            numbers.publish(number)
            assert await read(quick, 1) == [number]
        assert "waiting=0" in repr(slow)  # it holds nothing any more
        for _ in range(2):
            with pytest.raises(ResourceExhaustedError, match="subscribe anew"):
                await read(slow, 1)
        assert numbers.dropped == 1
        numbers.publish(6)
        assert await read(quick, 1) == [6]


async def test_exactly_the_capacity_may_wait() -> None:
    numbers: Broadcast[int] = Broadcast(capacity=3)
    with numbers.subscribe() as subscription:
        for number in range(3):
            numbers.publish(number)
        assert await read(subscription, 3) == [0, 1, 2]
    assert numbers.dropped == 0


async def test_nobody_hears_after_the_last_has_left() -> None:
    numbers: Broadcast[int] = Broadcast()
    heard = [numbers.heard]
    with numbers.subscribe():
        heard.append(numbers.heard)
    heard.append(numbers.heard)
    assert heard == [False, True, False]
    numbers.publish(1)


async def test_the_end_comes_after_what_was_published() -> None:
    numbers: Broadcast[int] = Broadcast()
    with numbers.subscribe() as subscription:
        numbers.publish(1)
        numbers.close()
        numbers.close()
        numbers.publish(2)
        assert await read(subscription, 1) == [1]
        with pytest.raises(UnavailableError, match="stopping"):
            await read(subscription, 1)
    with pytest.raises(UnavailableError):
        numbers.subscribe()


async def test_the_end_wakes_who_waits() -> None:
    numbers: Broadcast[int] = Broadcast()
    with numbers.subscribe() as subscription:
        reading = asyncio.ensure_future(read(subscription, 1))
        await asyncio.sleep(0)
        numbers.close()
        with pytest.raises(UnavailableError):
            await reading
