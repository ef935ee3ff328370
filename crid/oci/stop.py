"""Stopping: the polite signal, the grace period, the kill.

One stop a container is under way at a time, with one deadline. Who asks again joins it and may bring the deadline
forward, never push it back. Who goes away leaves the stop to the others; when the last one goes before the killing has
begun, the stop ends there and the container lives on. Nothing is locked meanwhile.

    signal -> wait for the process or the deadline -> SIGKILL, again and again -> leftovers -> done

A process in uninterruptible sleep (D) takes no signal, SIGKILL included. Whoever waits is told so after the program's
`stop_timeout`, and the log once in a while; the killing goes on without them, and a later stop joins it.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from crid import trace
from crid.errors import CridError, DeadlineExceededError
from crid.linux import process
from crid.log import fields
from crid.model.container import Container
from crid.model.ids import short
from crid.model.process import ProcessIdentity
from crid.oci.executions import Executions
from crid.oci.process_spec import ProcessSpecs
from crid.oci.program import RuntimeCommand
from crid.tasks import KeyedLock, Supervisor

logger = logging.getLogger(__name__)

SIGKILL = 9
FIRST_RETRY = 0.02
LAST_RETRY = 120.0
"""Seconds between two SIGKILLs: the first pause, which then doubles, and the longest."""
PATIENCE = 1.0
"""Seconds after which a process that does not end is worth a line in the log."""


@dataclass(slots=True)
class _Stop:
    """One stop under way. `deadline` is in the event loop's time; `grace` is the scope that waits for it."""

    deadline: float
    stuck: "asyncio.Future[None]"
    """Done once the process has not ended though it was killed."""
    grace: asyncio.Timeout | None = None
    waiting: int = 0
    killing: bool = False

    def shorten(self, deadline: float) -> None:
        """Bring the deadline forward to `deadline` if that is sooner."""
        if deadline < self.deadline:
            self.deadline = deadline
            if self.grace is not None and not self.grace.expired():
                self.grace.reschedule(deadline)


class Stopping:
    """Stops the containers of one runtime."""

    def __init__(
        self, command: RuntimeCommand, specs: ProcessSpecs, executions: Executions, tasks: Supervisor, alone: KeyedLock
    ) -> None:
        """`alone` is held by container while the runtime kills what it left running, and by who deletes it: runc freezes the
        container for the one, which the other takes for a pause, and fails."""
        self._command = command
        self._specs = specs
        self._executions = executions
        self._tasks = tasks
        self._alone = alone
        self._stops: dict[str, tuple[_Stop, asyncio.Task[object]]] = {}

    def __repr__(self) -> str:
        return f"<Stopping {sorted(self._stops)}>"

    async def stop(self, container: Container, signal: int, timeout: float) -> None:
        """See RuntimeImpl.stop."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if container.id in self._stops:
            stop, task = self._stops[container.id]
            stop.shorten(deadline)
        else:
            stop = _Stop(deadline, loop.create_future())
            task = self._tasks.start_logged(self._run(container, signal, stop), f"stop container {short(container.id)}")
            self._stops[container.id] = (stop, task)
            task.add_done_callback(lambda _: self._forget(container.id, stop))
        stop.waiting += 1
        try:
            await self._end_or_stuck(container, stop, task)
        finally:
            stop.waiting -= 1
            if not stop.waiting and not stop.killing:
                self._forget(container.id, stop)  # before the task sees it, so that nobody joins a cancelled stop
                task.cancel()

    async def _end_or_stuck(self, container: Container, stop: _Stop, task: "asyncio.Task[object]") -> None:
        """Return when the stop is done. Raises DeadlineExceededError if the process does not end, killed or not."""
        await asyncio.wait((task, stop.stuck), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():  # who joins a stop that has been stuck for long may come when it no longer is
            await asyncio.wait((task,), timeout=PATIENCE)
        if task.done():
            await task
            return
        first = container.status.process
        assert first is not None
        raise DeadlineExceededError(
            f"container {short(container.id)}: process {first.pid} was killed and does not end:"
            f" it is {_whereabouts(first.pid)}, and ends when the kernel lets it"
        )

    def _forget(self, container: str, stop: _Stop) -> None:
        if container in self._stops and self._stops[container][0] is stop:
            del self._stops[container]

    async def _run(self, container: Container, signal: int, stop: _Stop) -> None:
        first = container.status.process
        if first is not None and process.is_alive(first):
            if container.status.paused:
                await self._resume(container)
            await self._grace(first, signal, stop)
        stop.killing = True
        with self._executions.closed(container.id):
            if first is not None:
                trace.step("container stop", "killing its process")
                await self._kill(container, first, stop)
            trace.step("container stop", "ending what it left running")
            await self._end_leftovers(container)

    async def _grace(self, first: ProcessIdentity, signal: int, stop: _Stop) -> None:
        """Send `signal` and wait for the process at most until the deadline; if that has come, do neither."""
        if stop.deadline <= asyncio.get_running_loop().time() or not process.send_signal(first, signal):
            return
        trace.step("container stop", "waiting for it to end by itself")
        try:
            async with asyncio.timeout_at(stop.deadline) as stop.grace:
                await process.wait_gone(first)
        except TimeoutError:
            pass  # its time is over
        finally:
            stop.grace = None

    async def _kill(self, container: Container, first: ProcessIdentity, stop: _Stop) -> None:
        """Send SIGKILL until the process is gone. One that stays is frozen or in the kernel's hands: thaw it, say so."""
        saying = asyncio.get_running_loop().call_later(self._command.program.stop_timeout, stop.stuck.set_result, None)
        try:
            await self._kill_until_gone(container, first)
        finally:
            saying.cancel()

    async def _kill_until_gone(self, container: Container, first: ProcessIdentity) -> None:
        delay = FIRST_RETRY
        while process.send_signal(first, SIGKILL):
            try:
                async with asyncio.timeout(delay):
                    await process.wait_gone(first)
                    return
            except TimeoutError:
                delay = min(delay * 2, LAST_RETRY)
            if delay > PATIENCE:
                logger.warning(
                    "a killed process does not end%s",
                    fields(container=container.id, pid=first.pid, state=_whereabouts(first.pid)),
                )
                await self._resume(container)

    async def _resume(self, container: Container) -> None:
        """Thaw a paused container; one that is not paused says so in its exit code, which is of no interest here."""
        with contextlib.suppress(CridError):
            await self._command.call(container.id, "resume", container.id)

    async def _end_leftovers(self, container: Container) -> None:
        """Kill what outlived the first process: its commands, and without a PID namespace of its own its children too.

        The first process of a PID namespace takes everything in it along (pid_namespaces(7)).
        """
        self._executions.kill(container.id)
        try:
            if self._specs.has_own_pid_namespace(container):
                return
        except CridError:
            return  # no bundle: never created, or deleted
        async with self._alone.hold(container.id):
            done = await self._command.call(container.id, "kill", "--all", container.id, str(SIGKILL))
        if done.exit_code:
            logger.debug("kill --all%s", fields(container=container.id, error=done.error_text))


def _whereabouts(pid: int) -> str:
    """Return what a process does by the kernel's letter, and where in the kernel it sleeps (proc_pid_stat(5), wchan), in words.

    A frozen process is in state D on cgroup v1, without a place.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0].decode()
        with open(f"/proc/{pid}/wchan", "rb") as file:
            place = file.read().decode(errors="replace")
    except (OSError, IndexError):
        return "gone"
    return f"in state {state}" + (f", sleeping in {place}" if place not in ("", "0") else "")
