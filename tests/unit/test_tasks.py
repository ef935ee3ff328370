"""Ownership of concurrent work: what was begun is ended, what failed is told to somebody."""

import asyncio
import gc
import logging
from collections.abc import Callable

import pytest

from crid.tasks import KeyedLock, Rollback, Supervisor


async def settle() -> None:
    """Let everything that can run now run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def fail(message: str) -> None:
    raise ValueError(message)


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class TestSupervisor:
    async def test_run_returns_the_result(self) -> None:
        async def work() -> int:
            return 7

        assert await Supervisor("t").run(work(), "work") == 7

    async def test_run_raises_what_the_work_raises_and_logs_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        gc.collect()  # what earlier tests have left may log
        caplog.clear()
        with pytest.raises(ValueError, match="told"):
            await Supervisor("t").run(fail("told"), "work")
        await settle()
        gc.collect()
        assert not caplog.records

    async def test_the_work_survives_its_caller(self) -> None:
        supervisor, release, done = Supervisor("t"), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await release.wait()
            done.set()

        caller = asyncio.create_task(supervisor.run(work(), "work"))
        await settle()
        await cancelled(caller)
        assert "tasks=1" in repr(supervisor)
        assert supervisor.abandoned == {"starting": 1}
        release.set()
        await settle()
        assert done.is_set()
        assert "tasks=0" in repr(supervisor)

    async def test_the_failure_of_an_orphan_is_logged_with_its_name(self, caplog: pytest.LogCaptureFixture) -> None:
        supervisor, release = Supervisor("t"), asyncio.Event()

        async def work() -> None:
            await release.wait()
            raise ValueError("nobody listens")

        caller = asyncio.create_task(supervisor.run(work(), "StopPod x"))
        await settle()
        await cancelled(caller)
        release.set()
        await settle()
        assert [entry.levelno for entry in caplog.records] == [logging.ERROR]
        assert "StopPod x" in caplog.text
        assert "nobody listens" in caplog.text

    async def test_start_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        Supervisor("t").start_logged(fail("lonely"), "watcher")
        await settle()
        assert "watcher" in caplog.text
        assert "lonely" in caplog.text

    async def test_a_cancelled_task_is_no_failure(self, caplog: pytest.LogCaptureFixture) -> None:
        task = Supervisor("t").start_logged(asyncio.sleep(60), "watcher")
        await settle()
        await cancelled(task)
        assert not caplog.records

    async def test_close_waits_for_what_ends_in_time(self) -> None:
        supervisor, order = Supervisor("t"), list[str]()

        async def work() -> None:
            await settle()
            order.append("work")

        supervisor.start(work(), "work")
        await supervisor.close(grace=60)
        order.append("closed")
        assert order == ["work", "closed"]

    @pytest.mark.parametrize("grace", [0.01, 0])
    async def test_close_cancels_what_does_not_and_says_so(self, caplog: pytest.LogCaptureFixture, grace: float) -> None:
        supervisor, undone = Supervisor("t"), list[str]()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                undone.append("work")

        supervisor.start(work(), "stuck work")
        await settle()
        await supervisor.close(grace)
        assert undone == ["work"]
        assert ("stuck work" in caplog.text) is bool(grace)
        assert "tasks=0 closing=True" in repr(supervisor)

    @pytest.mark.parametrize("grace", [60, 0.01])
    async def test_close_reaches_what_is_started_meanwhile(self, grace: float) -> None:
        """A request that ends in time may have begun something only then; one that is cancelled, to undo it."""
        supervisor, order = Supervisor("t"), list[str]()

        async def later() -> None:
            await settle()
            order.append("later")

        async def work() -> None:
            try:
                await (settle() if grace == 60 else asyncio.Event().wait())
            finally:
                supervisor.start(later() if grace == 60 else asyncio.Event().wait(), "later")

        supervisor.start(work(), "work")
        await settle()
        await supervisor.close(grace)
        assert order == (["later"] if grace == 60 else [])
        assert "tasks=0 closing=True" in repr(supervisor)

    async def test_close_of_nothing_and_from_inside(self) -> None:
        supervisor = Supervisor("t")
        await supervisor.close(grace=60)
        await supervisor.start(supervisor.close(grace=60), "closes itself")


class TestKeyedLock:
    async def test_one_at_a_time_for_a_key_and_others_beside(self) -> None:
        locks, order = KeyedLock(), list[str]()
        release = asyncio.Event()

        async def hold(key: str, name: str) -> None:
            async with locks.hold(key):
                order.append(f"{name} in")
                if name == "first":
                    await release.wait()
                order.append(f"{name} out")

        tasks = [asyncio.create_task(hold(*words)) for words in (("a", "first"), ("a", "second"), ("b", "other"))]
        await settle()
        assert order == ["first in", "other in", "other out"]
        assert len(locks) == 1
        release.set()
        await asyncio.gather(*tasks)
        assert order[3:] == ["first out", "second in", "second out"]
        assert len(locks) == 0

    async def test_a_waiter_that_is_cancelled_and_a_block_that_fails_leave_nothing(self) -> None:
        locks = KeyedLock()

        async def wait() -> None:
            async with locks.hold("a"):
                pytest.fail("the lock was taken twice")

        async def block() -> None:
            async with locks.hold("a"):
                waiter = asyncio.create_task(wait())
                await settle()
                await cancelled(waiter)
                assert len(locks) == 1
                raise ValueError("block")

        with pytest.raises(ValueError, match="block"):
            await block()
        assert len(locks) == 0


class TestRollback:
    @staticmethod
    def step(order: list[str], name: str, error: type[Exception] | None = None) -> Callable[[], object]:
        """An undo step, asynchronous for even names' lengths, that notes its name and then fails with `error`."""

        def act() -> None:
            order.append(name)
            if error is not None:
                raise error(name)

        async def act_later() -> None:
            await asyncio.sleep(0)
            act()

        return act_later if len(name) % 2 == 0 else act

    @pytest.mark.parametrize("broken", [None, "one", "two", "three", "four"])
    async def test_reverse_order_and_no_failure_stops_the_others(
        self, broken: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        order: list[str] = []

        async def block() -> None:
            async with Rollback() as rollback:
                for name in ("one", "two", "three", "four"):
                    rollback.undo(f"undo {name}", self.step(order, name, OSError if name == broken else None))
                raise ValueError("the cause")

        with pytest.raises(ValueError, match="the cause"):
            await block()
        assert order == ["four", "three", "two", "one"]
        assert (f"undo {broken}" in caplog.text) == (broken is not None)

    async def test_commit_keeps_everything(self) -> None:
        order: list[str] = []
        async with Rollback() as rollback:
            rollback.undo("undo", self.step(order, "one"))
            rollback.commit()
        assert not order

    async def test_a_failure_after_the_commit_undoes_only_what_came_later(self) -> None:
        order: list[str] = []

        async def block() -> None:
            async with Rollback() as rollback:
                rollback.undo("undo", self.step(order, "one"))
                rollback.commit()
                rollback.undo("undo", self.step(order, "two"))
                raise ValueError("late")

        with pytest.raises(ValueError, match="late"):
            await block()
        assert order == ["two"]

    async def test_without_a_commit_everything_is_undone(self) -> None:
        order: list[str] = []
        async with Rollback() as rollback:
            rollback.undo("undo", self.step(order, "one"))
        assert order == ["one"]

    async def test_a_cancelled_block_is_undone(self) -> None:
        order: list[str] = []

        async def block() -> None:
            async with Rollback() as rollback:
                rollback.undo("undo", self.step(order, "one"))
                rollback.undo("undo", self.step(order, "four"))
                await asyncio.Event().wait()

        task = asyncio.create_task(block())
        await settle()
        await cancelled(task)
        assert order == ["four", "one"]
