"""A retried request joins the one that runs.

The kubelet gives up on a slow call after its deadline and sends the same request again. The work goes on meanwhile, so
the second request must neither start it anew nor fail because the name is taken. A request is "the same" if its key
(the object's name) and its bytes are equal.

No result is kept here: what a finished request has made is in the store, where its retry finds it, also after
a restart of the daemon (`crid.lifecycle.retries`). A failure is told to whoever waits, and to the log if nobody does.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from crid.errors import AlreadyExistsError
from crid.tasks import Supervisor, log_failure

T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    request: bytes
    task: asyncio.Task[T]
    waiting: int = 0
    """Callers that will see the result."""


class Inflight(Generic[T]):
    """Flights of one kind of request, by key."""

    def __init__(self, supervisor: Supervisor, kind: str) -> None:
        self._supervisor = supervisor
        self._kind = kind
        self._flights: dict[str, _Flight[T]] = {}

    async def run(self, key: str, request: bytes, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` returns, run at most once for all concurrent calls with this key and request.

        Raises AlreadyExistsError if another request with this key is running, and what `work` raises.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(request, self._supervisor.start(work(), f"{self._kind} {key}"))
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        elif flight.request != request:
            raise AlreadyExistsError(f"{self._kind} {key}: another request with this name is being served")
        flight.waiting += 1
        try:
            return await self._supervisor.wait(flight.task)
        finally:
            flight.waiting -= 1

    def __len__(self) -> int:
        return len(self._flights)

    def _land(self, key: str, flight: _Flight[T]) -> None:
        del self._flights[key]
        if not flight.waiting:
            log_failure(flight.task)
