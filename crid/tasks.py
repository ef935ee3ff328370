"""Ownership of concurrent work: every task has an owner, and no exception is lost.

Rules: nobody calls `asyncio.create_task` (ruff forbids it); a Supervisor starts tasks, logs what nobody awaited, and at
the end waits for them. Each of its tasks is an operation, whose step is known (`crid.trace`). A mutation must survive the
client that asked for it: `Supervisor.run` runs it as a task of the daemon and lets only the waiting be cancelled.
"""

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from crid import trace
from crid.log import fields

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Supervisor:
    """Owns the tasks started through it. Not thread-safe: use it from the event loop's thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: dict[asyncio.Task[Any], trace.Operation] = {}
        self._closing = False
        self.abandoned: Counter[str] = Counter()
        """How often a caller has stopped waiting, by the step at which the work was."""

    def __repr__(self) -> str:
        return f"<Supervisor {self._name} tasks={len(self._tasks)} closing={self._closing}>"

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start `work` as a task called `name`; its exception is logged when it ends, unless somebody awaits it."""
        context = contextvars.copy_context()
        operation = context.run(trace.begin, name)
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self._tasks[task] = operation
        task.add_done_callback(self._tasks.pop)
        return task

    def start_logged(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[object]:
        """Like `start`, for work that nobody will await: its failure is logged with its name."""
        task = self.start(work, name)
        task.add_done_callback(log_failure)
        return task

    def working(self) -> list[str]:
        """Return the names of the tasks that run."""
        return sorted(task.get_name() for task in self._tasks if not task.done())

    async def run(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Run `work` to its end even if the caller is cancelled, and return its result.

        A cancelled caller gets CancelledError at once; the work goes on, and its failure, which then nobody else sees,
        is logged.
        """
        task = self.start(work, name)
        try:
            return await self.wait(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(log_failure)
            raise

    async def wait(self, task: asyncio.Task[T]) -> T:
        """Return the result of a task of this supervisor. A cancelled caller leaves it alone, which is logged and counted."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if (operation := self._tasks.get(task)) is not None:
                self.abandoned[operation.step] += 1
                logger.info("a caller waits no longer%s", fields(task=operation.name, now=operation.step))
            raise

    async def close(self, grace: float) -> None:
        """Wait at most `grace` seconds for the tasks to end, and for those that they start; then cancel the rest and wait.

        Who gives no grace expects none to have ended: that is not logged.
        """
        self._closing = True
        now, current = asyncio.get_running_loop().time, asyncio.current_task()
        deadline = now() + grace
        while tasks := {task for task in self._tasks if task is not current}:
            _, late = await asyncio.wait(tasks, timeout=max(deadline - now(), 0))
            for task in late:
                if grace:
                    words = fields(task=task.get_name(), now=self._tasks[task].step, grace_s=grace)
                    logger.warning("cancelling a task that did not end in time%s", words)
                task.cancel()
            if late:
                await asyncio.wait(late)


def log_failure(task: asyncio.Task[Any]) -> None:
    """Log the failure of an ended task that nobody awaits."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("task failed%s", fields(task=task.get_name(), error=error), exc_info=error)


class KeyedLock:
    """One asyncio lock a key, made when first asked for and forgotten when nobody holds or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of `key` for the block."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]

    async def take(self, key: str) -> AsyncExitStack:
        """Return once the lock of `key` is held; leaving what is returned gives it back, in whatever task that is.

        For work that survives its caller, but is not to be done for one that has gone before its turn.
        """
        taken = AsyncExitStack()
        await taken.enter_async_context(self.hold(key))
        return taken

    def __len__(self) -> int:
        return len(self._locks)


class Rollback(AsyncExitStack):
    """Undo steps: run in reverse order if the block fails, forgotten by `commit`. One that fails is logged and stops no other.

    The steps run also when the block was cancelled: the block itself must therefore run in a supervised task.
    """

    def undo(self, doing: str, action: Callable[[], Awaitable[object] | object]) -> None:
        """Register `action`, which is the step `doing` (a literal, see `crid.trace`) of the undoing."""

        async def run() -> None:
            try:
                trace.step("undo", doing)
                result = action()
                if isinstance(result, Awaitable):
                    await result
            except Exception:
                logger.exception("undo failed%s", fields(step=doing))

        self.push_async_callback(run)

    def commit(self) -> None:
        """Keep what was done: no step will be undone."""
        self.pop_all()
