"""What became of containers that ended: one place where an exit is written down, and where others wait for it.

An exit reaches `record` from the exits directory while the daemon runs, from recovery after a restart, and from `settle`
where a process is known to be gone; all bring the same values, since all read what the monitor wrote. Recording is
idempotent: the first one wins, but for the reason of a failed start, which nobody else knows, and for an exit code that was
made up because the monitor was silent, which what it says after all replaces.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Protocol

from crid import trace
from crid.errors import DeadlineExceededError
from crid.linux import process
from crid.log import fields
from crid.model import ids
from crid.model.container import EXIT_CODE_UNKNOWN, MONITOR_LOST, UNREPORTED, Container, ContainerState, ContainerStatus
from crid.store.memory import ContainerStorer
from crid.store.state import StateStore

logger = logging.getLogger(__name__)


LOOKS = (0.2, 0.8, 4.0, 5.0)
"""Seconds to wait for a monitor's notice, one after the other, before looking for oneself: it drains the output first. A
monitor that is alive and silent for all of them has the exit code and cannot write it down."""

START_ERROR_EXIT_CODE = 128
"""What a container whose program could not be started reports, as containerd does."""


class ExitFacts(Protocol):
    """What a monitor reports of an ended container."""

    @property
    def container_id(self) -> str:
        """Whose exit it is."""

    @property
    def exit_code(self) -> int:
        """128 + signal for a signalled process."""

    @property
    def finished_at(self) -> int:
        """Nanoseconds since the epoch."""

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel killed a process of the container for want of memory."""


class Exits:
    """Records exits and lets others wait for them."""

    def __init__(
        self, containers: ContainerStorer, state: StateStore, read_exit: Callable[[Container], ExitFacts | None]
    ) -> None:
        """`read_exit` returns what the monitor has written about a container, None if there is nothing (yet)."""
        self._containers = containers
        self._state = state
        self._read_exit = read_exit
        self._waiting: dict[str, asyncio.Event] = {}
        self.oom_kills = 0
        """How many of the recorded ends were for lack of memory."""

    async def follow(self, exits: AsyncIterator[ExitFacts], ended: Callable[[Container], object]) -> None:
        """Record every exit that `exits` yields, until it ends; `ended` is told of each, and must not block."""
        async for facts in exits:
            container = self._containers.find(facts.container_id)
            if container is not None:
                news = self._record_facts(container, facts)
                trace.step("exit", "removing the notice")
                if news:
                    ended(container)

    def _record_facts(self, container: Container, facts: ExitFacts) -> bool:
        return self.record(container, facts.exit_code, facts.finished_at, oom_killed=facts.oom_killed)

    async def settle(self, container: Container) -> bool:
        """Return once the exit of a container whose process is gone is recorded, and whether nobody had recorded it before.

        The monitor's notice comes first as a rule. Where it does not, what it has written is looked for, and whether it
        lives: without a monitor nobody can tell the exit code any more.
        """
        for look in LOOKS:
            with contextlib.suppress(DeadlineExceededError):
                await self.wait(container, look)
                return False
            alive = process.is_alive(container.status.monitor)  # before the look: it may write, and end, in between
            if self.catch_up(container):
                return True
            if not alive:
                return self._record_end_of_both(container)
        message = f"its monitor has not reported for {sum(LOOKS):g} s how it ended"
        return self.record(container, EXIT_CODE_UNKNOWN, time.time_ns(), reason=UNREPORTED, message=message)

    def catch_up(self, container: Container) -> bool:
        """Record what the monitor has written about the end of `container`, if there is anything; return whether it is new."""
        facts = self._read_exit(container)
        return facts is not None and self._record_facts(container, facts)

    def _record_end_of_both(self, container: Container) -> bool:
        message = "monitor lost: it ended before the container, so nobody knows the exit code"
        return self.record(container, EXIT_CODE_UNKNOWN, time.time_ns(), reason=MONITOR_LOST, message=message)

    def record(
        self,
        container: Container,
        exit_code: int,
        finished_at: int,
        *,
        oom_killed: bool = False,
        reason: str = "",
        message: str = "",
    ) -> bool:
        """Write down that `container` ended, unless that is known already, and wake who waits for it; return whether it is
        new."""

        def is_known(status: ContainerStatus) -> bool:
            return bool(status.finished_at) and not (status.exit_lost and not reason)

        def change(status: ContainerStatus) -> ContainerStatus:
            if is_known(status):
                return status
            said = ContainerStatus() if status.exit_lost else status  # whoever has it ended may have said why
            return replace(
                status,
                finished_at=max(finished_at, status.started_at, 1),
                exit_code=exit_code,
                oom_killed=oom_killed,
                paused=False,
                reason=reason or said.reason,
                message=message or said.message,
            )

        known = is_known(container.status)
        trace.step("exit", "noting that a container has ended")
        self._state.record_container(container, change)
        if not known:
            self.oom_kills += oom_killed
            logger.info(
                "container has ended%s",
                fields(container=ids.short(container.id), exit_code=exit_code, oom=oom_killed or None, reason=reason or None),
            )
        self._wake(container)
        return not known

    def _wake(self, container: Container) -> None:
        waiting = self._waiting.pop(container.id, None)
        if waiting is not None:
            waiting.set()

    def record_failed_start(self, container: Container, failed_at: int, message: str) -> None:
        """Write down that the program of `container` could not be run, and why.

        The monitor may have reported already that the waiting process ended: that was the consequence, this is the cause.
        """

        def change(status: ContainerStatus) -> ContainerStatus:
            return replace(
                status,
                started_at=failed_at,
                finished_at=failed_at,
                exit_code=START_ERROR_EXIT_CODE,
                paused=False,
                reason="StartError",
                message=message,
            )

        self._state.record_container(container, change)
        logger.info("container could not be started%s", fields(container=ids.short(container.id), reason=message))
        self._wake(container)

    def record_lost(self, container: Container, finished_at: int, message: str) -> None:
        """Write down that `container` ended and nobody can say how."""
        self.record(container, EXIT_CODE_UNKNOWN, finished_at, reason=UNREPORTED, message=message)

    async def wait(self, container: Container, timeout: float) -> None:
        """Return once the container's exit is recorded. Raises DeadlineExceededError after `timeout` seconds."""
        if container.status.state is ContainerState.STOPPED:
            return
        event = self._waiting.setdefault(container.id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError as error:
            raise DeadlineExceededError(f"container {container.id}: its exit was not reported within {timeout:g} s") from error

    def forget(self, container: Container) -> None:
        """Drop what is kept for a container that is being removed."""
        self._waiting.pop(container.id, None)
