"""Makes each step of a piece of work fail in turn, without the work knowing.

A step is the first call, during the work, of a function of crid's that another function of crid's calls: providers,
syscall wrappers, file and record writers, on the event loop's thread and on those it hands work to. The interpreter's
profile hook sees every such call (sys.setprofile), and an exception that the hook raises on a call surfaces in the called
function as if its first line had raised it. So a step that is added to crid is found by itself.
"""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import crid
from crid.linux.threads import Threads

SOURCE = str(Path(crid.__file__).parent)

WITHOUT_EFFECT = (
    *("cri", "model", "errors.py", "log.py", "tasks.py", "trace.py", "oci/spec", "wire"),
    *("events", "lifecycle/event_hooks.py", "lifecycle/listeners.py"),
)
"""Messages, pure data and pure functions, the very machinery of undoing, and the telling of what has happened: they do not
fail by themselves."""


TRIES = 50
"""How often the work is done until it takes a step. It takes some only where it has to wait: not for a program that has ended
before it was waited for, as on a busy machine."""


class InjectedError(OSError):
    """The failure of a step, as the kernel would cause it."""


class Faults:
    """Records the steps of a piece of work, or makes one of them fail."""

    def __init__(self, ignored: frozenset[str] = frozenset()) -> None:
        self._ignored = ignored
        self._seen: dict[CodeType, str] = {}
        self._target = ""
        self._active = False
        self.happened = False

    def steps(self) -> list[str]:
        """Return the recorded steps, `module.py:function`, in the order of their first call."""
        return list(dict.fromkeys(self._seen.values()))

    def _hook(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or not self._active or (code := frame.f_code) in self._seen:
            return
        name = self._name(frame)
        if not name:
            return
        self._seen[code] = name
        if name == self._target and not self.happened:
            self.happened = True
            self._active = False
            raise InjectedError(5, "injected", name)

    def _name(self, frame: FrameType) -> str:
        """Return the step that this call is, empty if it is none."""
        code, caller = frame.f_code, frame.f_back
        if not code.co_filename.startswith(SOURCE) or caller is None or not caller.f_code.co_filename.startswith(SOURCE):
            return ""
        where = code.co_filename.removeprefix(SOURCE + "/")
        if where.startswith(WITHOUT_EFFECT) or code.co_name.startswith("<") or self._in_background():
            return ""
        name = f"{where}:{code.co_qualname}"
        return "" if name in self._ignored or code.co_name in self._ignored else name

    @staticmethod
    def _in_background() -> bool:
        """Whether this is a callback of the event loop, whose exceptions nobody gets, or a task that does other work."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a thread without an event loop, which works for whoever waits for it
            return False
        return task is None or task.get_name() == "exits"

    @contextmanager
    def watching(self, target: str = "") -> Iterator[None]:
        """Watch the block's calls; with a `target` let the first call of that step fail. The steps are recorded anew."""
        self._seen, self._target, self.happened = {}, target, False
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(max_workers=2)
        threading.setprofile(self._hook)  # for threads that start from now on: those of the new executor
        loop.set_default_executor(executor)

        async def run(_: Threads, work: Callable[[], Any], **_options: object) -> Any:
            return await loop.run_in_executor(executor, work)  # threads that live longer lose the hook when it raises

        self._active = True
        sys.setprofile(self._hook)
        try:
            with mock.patch.object(Threads, "run", run):
                yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # takes the hook away
            self._active = False
            loop.set_default_executor(ThreadPoolExecutor(max_workers=2))
            executor.shutdown(wait=False)

    async def each(self, work: Callable[[], Awaitable[object]], after: Callable[[str, bool], Awaitable[None]]) -> list[str]:
        """Run `work` once to learn its steps, then once a step with that step failing.

        After each run, the first included, `after(step, failed)` is awaited, `step` being empty the first time. Returns
        the steps. One that none of TRIES runs reached is an error: the steps must be the same each time, but for chance.
        """
        with self.watching():
            await work()
        steps = self.steps()
        await after("", False)
        for step in steps:
            for _ in range(TRIES):
                await after(step, await self._fails(step, work))
                if self.happened:
                    break
            assert self.happened, f"{step} was not reached"
        return steps

    async def _fails(self, step: str, work: Callable[[], Awaitable[object]]) -> bool:
        """Run `work` with `step` failing, if it is reached, and return whether the work failed with it."""
        with self.watching(step):
            try:
                await work()
            except Exception:
                if not self.happened:
                    raise
                return True
        return False
