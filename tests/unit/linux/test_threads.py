import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from crid.errors import DeadlineExceededError, ResourceExhaustedError
from crid.linux.threads import Threads
from tests.harness.tools import eventually, until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a call that hangs waits for; in the end it comes."""
    event = threading.Event()
    yield event
    event.set()


async def test_results_and_errors_come_back() -> None:
    threads = Threads("test", 2)
    assert await threads.run(lambda: threading.current_thread().name, timeout=30, what="the call") == "test"
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0, timeout=30, what="the call")
    assert threads.close(30)


async def test_a_call_that_hangs_is_given_up_and_the_others_go_on(gate: threading.Event) -> None:
    threads = Threads("test", 2)
    with pytest.raises(DeadlineExceededError, match=r"the look at /data did not end within 0\.05 s"):
        await threads.run(gate.wait, timeout=0.05, what="the look at /data")
    assert await threads.run(lambda: 5, timeout=30, what="the call") == 5
    assert not threads.close(0.05)
    gate.set()
    assert threads.close(30)


async def test_what_has_not_begun_at_its_deadline_never_does(gate: threading.Event) -> None:
    threads = Threads("test", 1)
    begun: list[str] = []
    waiting = asyncio.create_task(threads.run(gate.wait, timeout=30, what="the first"))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError, match="the second did not end"):
        await threads.run(lambda: begun.append("second"), timeout=0.05, what="the second")
    gate.set()
    assert await waiting
    await threads.run(lambda: begun.append("third"), timeout=30, what="the third")
    assert begun == ["third"]


async def test_no_more_threads_than_the_limit_and_no_more_than_needed(gate: threading.Event) -> None:
    threads = Threads("test", 3)
    for _ in range(5):
        await threads.run(lambda: None, timeout=30, what="the call")
    assert repr(threads) == "<Threads test threads=1 unfinished=0>"
    waiting = [asyncio.create_task(threads.run(gate.wait, timeout=30, what="the call")) for _ in range(5)]
    await asyncio.sleep(0)
    assert repr(threads) == "<Threads test threads=3 unfinished=5>"
    gate.set()
    assert await asyncio.gather(*waiting) == [True] * 5


async def test_a_caller_that_goes_leaves_the_call_alone(gate: threading.Event) -> None:
    threads = Threads("test", 1)
    begun, ended = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        gate.wait()
        ended.set()

    task = asyncio.create_task(threads.run(call, timeout=60, what="the call"))
    await until(begun.is_set, "it has begun")  # until then it is given up with its caller
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await asyncio.to_thread(eventually, ended.is_set, "it has ended")


async def test_threads_that_could_not_be_started_are_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has as many as it may have; later it may have more."""
    threads = Threads("test", 2)
    begun: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        for number in range(3):
            with pytest.raises(ResourceExhaustedError, match=f"call {number}: can't start new thread"):
                await threads.run(lambda: begun.append("given up"), timeout=30, what=f"call {number}")
    assert repr(threads) == "<Threads test threads=0 unfinished=0>"
    await threads.run(lambda: begun.append("later"), timeout=30, what="the last")
    assert begun == ["later"]
    assert threads.close(30)


async def test_what_runs_already_serves_where_no_more_threads_can_be_had(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Threads("test", 2)
    first = asyncio.create_task(threads.run(gate.wait, timeout=30, what="the first"))
    await asyncio.sleep(0)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    second = asyncio.create_task(threads.run(lambda: 2, timeout=30, what="the second"))
    await asyncio.sleep(0)
    gate.set()
    assert (await first, await second) == (True, 2)
    assert threads.close(30)


def test_a_hanging_call_does_not_keep_the_process() -> None:
    program = """
import asyncio, threading
from crid.errors import DeadlineExceededError
from crid.linux.threads import Threads

async def main():
    try:
        await Threads("test", 1).run(threading.Event().wait, timeout=0.01, what="it")
    except DeadlineExceededError:
        print("given up")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "given up\n"
