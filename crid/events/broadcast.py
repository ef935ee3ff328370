"""Bounded fan-out: each subscriber has a queue of its own, and one that does not keep up loses its subscription.

Publishing never waits and never fails. A subscriber whose queue is full is dropped: its queue is emptied at once, so that it
holds no memory, and its next read raises ResourceExhaustedError. It cannot mistake that for a quiet time, and has to look
at the whole state again, as after any other break. Nobody else notices.

Where nobody subscribes, publishing costs the test of an empty set; who has to work for an item first asks `heard`.
Not thread-safe: everything happens on the event loop's thread.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Generic, Self, TypeVar

from crid.errors import CridError, ResourceExhaustedError, UnavailableError

T = TypeVar("T")

CAPACITY = 1000
"""Items that wait for a subscriber before it is dropped: some seconds of the busiest node's events. CRI-O's number, too."""


class Broadcast(Generic[T]):
    """What is published reaches everyone who has subscribed by then, each item once and in order."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._subscriptions: set[Subscription[T]] = set()
        self._closed = False
        self.dropped = 0
        """How many subscribers did not keep up so far."""

    def __repr__(self) -> str:
        return f"<Broadcast subscribers={len(self._subscriptions)} dropped={self.dropped} closed={self._closed}>"

    @property
    def heard(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._subscriptions)

    def publish(self, item: T) -> None:
        """Give `item` to every subscriber."""
        for subscription in tuple(self._subscriptions):
            if not subscription.offer(item, self._capacity):
                self._subscriptions.discard(subscription)
                self.dropped += 1

    def subscribe(self) -> "Subscription[T]":
        """Return a subscription from now on, to be closed by its owner. Raises UnavailableError once closed."""
        if self._closed:
            raise UnavailableError("nothing is published any more: the daemon is stopping")
        subscription: Subscription[T] = Subscription(self._subscriptions)
        self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """Publish nothing any more: each subscriber reads what it has not read yet, then UnavailableError. Idempotent."""
        self._closed = True
        while self._subscriptions:
            self._subscriptions.pop().end(UnavailableError("the daemon is stopping"))


class Subscription(Generic[T]):
    """One subscriber's end: iterate over it in one task. As a context manager it is closed with the block."""

    def __init__(self, listed: "set[Subscription[T]]") -> None:
        self._listed = listed
        self._waiting: deque[T] = deque()
        self._end: CridError | None = None
        self._awake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Subscription waiting={len(self._waiting)} end={self._end!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the next item. Raises ResourceExhaustedError if this subscriber was dropped, UnavailableError at the end."""
        while not self._waiting:
            if self._end is not None:
                raise self._end
            self._awake.clear()
            await self._awake.wait()
        return self._waiting.popleft()

    def offer(self, item: T, capacity: int) -> bool:
        """Take `item`, or return False if `capacity` of them wait already: then it has ended."""
        if len(self._waiting) >= capacity:
            self._waiting.clear()
            self.end(
                ResourceExhaustedError(f"dropped, since {capacity} events were waiting to be read: list and subscribe anew")
            )
            return False
        self._waiting.append(item)
        self._awake.set()
        return True

    def end(self, why: CridError) -> None:
        """Let reads raise `why` once nothing waits any more."""
        self._end = why
        self._awake.set()

    def close(self) -> None:
        """Take part no more. Idempotent."""
        self._listed.discard(self)
        self._waiting.clear()
