"""That no end goes unnoticed, whatever becomes of a monitor and its notices.

The notices (`crid.oci.exits`) are the fast way and nearly always enough. This is the second opinion: each container's
process is watched by the kernel's own word (pidfd), and every SWEEP seconds all containers are looked at. So a monitor that
was killed, a disk that was full when it wrote, and an event that was lost delay the news by seconds at the most. The pause
processes of pods that share a PID namespace are looked at, too.

The sweep begins the watches, too: nothing of this is on the path of a container's creation.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from crid import trace
from crid.errors import CridError
from crid.lifecycle.exits import Exits
from crid.lifecycle.parts import Parts
from crid.linux import process
from crid.log import fields
from crid.model import ids
from crid.model.container import Container, ContainerState
from crid.model.sandbox import PodSandbox

logger = logging.getLogger(__name__)

SWEEP = 10.0
"""Seconds between two looks at everything. Two small files of /proc are read for each container."""


class ExitWatch:
    """Watches every container that has not ended. `ended` is told of ends that are recorded here, and must not block."""

    def __init__(self, parts: Parts, exits: Exits, ended: Callable[[Container], object]) -> None:
        self._parts = parts
        self._exits = exits
        self._ended = ended
        self._watched: dict[str, Callable[[], None]] = {}
        self._settling: set[str] = set()
        self.without_monitor: set[str] = set()
        """The running containers whose monitors are gone, by id."""

    def __repr__(self) -> str:
        return f"<ExitWatch watched={len(self._watched)} settling={len(self._settling)}>"

    async def run(self) -> None:
        """Sweep now and then; never returns."""
        while True:
            try:
                self.sweep()
            except (OSError, CridError):  # out of descriptors: the next sweep comes
                logger.exception("containers could not be looked at")
            await asyncio.sleep(SWEEP)

    def close(self) -> None:
        """End all watches. Idempotent."""
        while self._watched:
            self._watched.popitem()[1]()

    def sweep(self) -> None:
        """Look at every container and pod once, and write down again what could not be written. Raises OSError, CridError."""
        present, living = set(), set()
        for container in self._parts.containers.list():
            present.add(container.id)
            if container.status.state is not ContainerState.STOPPED:
                living.add(container.id)
                self._look(container)
            elif container.status.exit_lost and self._exits.catch_up(container):
                logger.info("a monitor has reported after all%s", fields(container=ids.short(container.id)))
        for gone in self._watched.keys() - present:
            self._watched.pop(gone)()
        self.without_monitor &= living
        for sandbox in self._parts.sandboxes.list():
            self._look_at_pause(sandbox)
        trace.step("sweep", "writing records again")
        self._parts.state.write_again()

    def _look(self, container: Container) -> None:
        if container.id not in self._watched and container.id not in self._settling:
            runtime = self._parts.runtime.of(container)
            self._watched[container.id] = runtime.watch_end(container, partial(self._gone, container))
        if container.id not in self.without_monitor and not process.is_alive(container.status.monitor):
            self.without_monitor.add(container.id)
            logger.error(
                "monitor lost: the container goes on without log and attach, and its exit code will not be known%s",
                fields(container=container.id, monitor=container.status.monitor and container.status.monitor.pid),
            )

    def _look_at_pause(self, sandbox: PodSandbox) -> None:
        """Have a pod not ready whose PID namespace is gone: no container can be made in it, so the client makes it anew."""
        pause = sandbox.metadata.pause
        if sandbox.status.ready and pause is not None and not process.is_alive(pause):
            why = f"its pause process {pause.pid} is gone"
            logger.error("a pod is broken and so not ready%s", fields(pod=sandbox.id, why=why))
            self._parts.state.record_sandbox(sandbox, lambda status: replace(status, stopped_at=time.time_ns()))

    def _gone(self, container: Container) -> None:
        """The container's process has ended: see to it that this is recorded."""
        self._watched.pop(container.id, None)
        if container.status.state is ContainerState.STOPPED:
            return
        self._settling.add(container.id)
        task = self._parts.supervisor.start_logged(self._settle(container), f"exit of {container.id}")
        task.add_done_callback(lambda _: self._settling.discard(container.id))

    async def _settle(self, container: Container) -> None:
        if await self._exits.settle(container):
            self._ended(container)
