"""What became of containers that ended: one place where an exit is written down, and where others wait for it.

An exit reaches `record` from the exits directory while the daemon runs, and from recovery after a restart; both bring the
same values, since both read what the monitor wrote. Recording is idempotent: the first one wins, but for the reason of a
failed start, which nobody else knows.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Protocol

from crid import trace
from crid.errors import DeadlineExceededError
from crid.log import fields
from crid.model import ids
from crid.model.container import EXIT_CODE_UNKNOWN, Container, ContainerState, ContainerStatus
from crid.store.memory import ContainerStorer
from crid.store.state import StateStore

logger = logging.getLogger(__name__)


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

    def __init__(self, containers: ContainerStorer, state: StateStore) -> None:
        self._containers = containers
        self._state = state
        self._waiting: dict[str, asyncio.Event] = {}

    async def follow(self, exits: AsyncIterator[ExitFacts], ended: Callable[[Container], object]) -> None:
        """Record every exit that `exits` yields, until it ends; `ended` is told of each, and must not block."""
        async for facts in exits:
            container = self._containers.find(facts.container_id)
            if container is not None:
                self.record(container, facts.exit_code, facts.finished_at, oom_killed=facts.oom_killed)
                trace.step("exit", "removing the notice")
                ended(container)

    def record(
        self,
        container: Container,
        exit_code: int,
        finished_at: int,
        *,
        oom_killed: bool = False,
        reason: str = "",
        message: str = "",
    ) -> None:
        """Write down that `container` ended, unless that is known already, and wake who waits for it."""

        def change(status: ContainerStatus) -> ContainerStatus:
            if status.finished_at:
                return status
            return replace(
                status,
                finished_at=max(finished_at, status.started_at, 1),
                exit_code=exit_code,
                oom_killed=oom_killed,
                paused=False,
                reason=reason,
                message=message,
            )

        known = bool(container.status.finished_at)
        trace.step("exit", "noting that a container has ended")
        self._state.record_container(container, change)
        if not known:
            logger.info(
                "container has ended%s",
                fields(container=ids.short(container.id), exit_code=exit_code, oom=oom_killed or None, reason=reason or None),
            )
        self._wake(container)

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
        self.record(container, EXIT_CODE_UNKNOWN, finished_at, reason="Unknown", message=message)

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
