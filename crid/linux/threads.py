"""Calls of the kernel that may not return, on threads that nobody else needs.

A path whose file server is gone, a lock of the kernel's that somebody holds for long: a thread in such a call takes no signal,
so nothing ends it, and waiting is all that can be given up. What may meet such a thing must not use asyncio's own pool, whose
few threads would soon all hang, and everything with them. Nor does a thread that hangs keep the process from ending: an
executor's would be waited for.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from crid.errors import DeadlineExceededError, ResourceExhaustedError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """One call and who waits for it: the future is cancelled when nobody does any more."""

    work: Callable[[], T]
    outcome: asyncio.Future[T]
    loop: asyncio.AbstractEventLoop


class Threads:
    """At most `limit` threads, started when needed, for calls of one purpose; what is more waits its turn, in order. Used on
    the event loop."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0

    def __repr__(self) -> str:
        return f"<Threads {self._name} threads={len(self._threads)} unfinished={self._unfinished}>"

    async def run(self, work: Callable[[], T], *, timeout: float | None, what: object) -> T:
        """Return what `work` returns on one of the threads.

        Raises what `work` raises, and DeadlineExceededError beginning with `what`, as that reads then, after `timeout` seconds,
        None for whenever it ends; ResourceExhaustedError if the process may have no thread for it.
        Then, as when the caller is cancelled, a call that has not begun never will; one that has goes on, and nobody hears of
        its result.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(work, outcome, loop))
        self._unfinished += 1
        if len(self._threads) < min(self._unfinished, self._limit):
            self._start_thread(what)
        try:
            await asyncio.wait((outcome,), timeout=timeout)
            if not outcome.done():
                raise DeadlineExceededError(f"{what} did not end within {timeout:g} s: the kernel holds it")
            return outcome.result()
        finally:
            outcome.cancel()

    def _start_thread(self, what: object) -> None:
        """Have one thread more. Where there can be none those that run serve everybody, in turn."""
        thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                self._calls.get_nowait()  # nobody will: it is the only one
                self._unfinished -= 1
                raise ResourceExhaustedError(f"{what}: {error}") from error
        else:
            self._threads.append(thread)

    def close(self, patience: float) -> bool:
        """End the threads, once they have done what they have begun; return whether all did within `patience` seconds.

        Blocks. Idempotent; nothing may be run afterwards.
        """
        for _ in self._threads:
            self._calls.put(None)
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            result, error = None, None
            if not call.outcome.cancelled():
                try:
                    result = call.work()
                except BaseException as raised:
                    error = raised
            with contextlib.suppress(RuntimeError):  # the loop, and so the daemon, has ended
                call.loop.call_soon_threadsafe(self._finish, call.outcome, result, error)
            del call, result, error  # while it waits for the next, the thread keeps nothing alive

    def _finish(self, outcome: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
        self._unfinished -= 1
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)
