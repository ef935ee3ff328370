"""What a new daemon makes of what an old one left: records, monitors that went on, exit files, half-made things.

Assumptions: nobody else changes the directories; a monitor outlives the daemon and reports into files; after a reboot the
run directory is empty and no recorded process lives. The daemon serves nobody until this is done.

For each container the facts decide, in this order: an exit that the monitor wrote; a process that is alive; a monitor that
is alive (its report will come); else the exit is lost, and said so. Everything goes through the same calls as in
ordinary operation: there is no second code path that records an exit.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from crid.cri import api_pb2 as cri
from crid.errors import CridError
from crid.lifecycle import create, sandbox
from crid.lifecycle.exits import ExitFacts, Exits
from crid.lifecycle.parts import Parts
from crid.linux import process
from crid.log import fields
from crid.model.container import Container, ContainerMetadata, ContainerState, ContainerStatus
from crid.model.sandbox import SandboxStatus
from crid.store.names import NameRegistry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found."""

    sandboxes: int
    containers: int
    running: int
    discarded: int


class Recovery:
    """One recovery, at start. `read_exit` returns what the monitor wrote about a container, or None."""

    def __init__(self, parts: Parts, exits: Exits, read_exit: Callable[[Container], ExitFacts | None]) -> None:
        self._parts = parts
        self._exits = exits
        self._read_exit = read_exit

    async def run(self) -> Recovered:
        """Find everything again, finish what ended meanwhile, take apart what was half made."""
        self._load_sandboxes()
        discarded = await self._load_containers()
        for container in self._parts.containers.list():
            await self._settle(container)
        discarded += await self._discard_incomplete()
        ready = {item.id for item in self._parts.sandboxes.list() if not item.status.network_released}
        await self._parts.network.retain(ready)
        running = sum(item.status.state is ContainerState.RUNNING for item in self._parts.containers.list())
        return Recovered(self._parts.sandboxes.size(), self._parts.containers.size(), running, discarded)

    def _load_sandboxes(self) -> None:
        for found in self._parts.state.load_sandboxes():
            self._parts.sandboxes.add(found)
            _hold(self._parts.sandbox_names, found.metadata.name, found.id)
            if found.status.ready and not found.metadata.run_directory.exists():
                logger.info("pod did not survive a reboot%s", fields(pod=found.id, name=found.metadata.name))
                self._parts.state.update_sandbox(found, _stopped_by_reboot)

    async def _load_containers(self) -> int:
        discarded = 0
        for found in self._parts.state.load_containers():
            if self._parts.sandboxes.find(found.metadata.sandbox_id) is None:
                logger.warning(
                    "container without its pod is discarded%s", fields(container=found.id, pod=found.metadata.sandbox_id)
                )
                await self._discard(found)
                discarded += 1
                continue
            self._parts.containers.add(found)
            _hold(self._parts.container_names, found.metadata.name, found.id)
        return discarded

    async def _settle(self, container: Container) -> None:
        """Bring one container's status up to date."""
        if container.status.state is ContainerState.STOPPED:
            return
        facts = self._read_exit(container)
        alive = self._parts.runtime.of(container).is_alive(container)
        if facts is not None and not alive:
            self._exits.record(container, facts.exit_code, facts.finished_at, oom_killed=facts.oom_killed)
        elif alive:
            await self._observe(container)
        elif not process.is_alive(container.status.monitor):
            self._exits.record_lost(container, time.time_ns(), "it ended while crid was not running, and so did its monitor")

    async def _observe(self, container: Container) -> None:
        """The process lives: ask the runtime whether it was started, in case the daemon died before it wrote that down."""
        if not process.is_alive(container.status.monitor):
            logger.warning(
                "container runs without its monitor: its exit code will be unknown%s", fields(container=container.id)
            )
        try:
            observed = await self._parts.runtime.of(container).update_status(container)
        except CridError as error:
            logger.warning("cannot ask for a container's state%s", fields(container=container.id, error=error))
            return

        def change(status: ContainerStatus) -> ContainerStatus:
            started = observed.state in ("running", "paused")
            started_at = status.started_at or (time.time_ns() if started else 0)
            return replace(status, started_at=started_at, paused=observed.state == "paused")

        self._parts.state.update_container(container, change)

    async def _discard_incomplete(self) -> int:
        """Take apart what has a directory and no record: its creation was cut off."""
        paths = self._parts.state.incomplete()
        for path in paths:
            logger.warning("half-made object is discarded%s", fields(path=path))
            if path.parent.name == "pods":
                await sandbox.discard(self._parts, path.name)
            else:
                await self._discard(Container(_stub(path.name, self._parts), ContainerStatus()))
        return len(paths)

    async def _discard(self, container: Container) -> None:
        try:
            await self._parts.runtime.of(container).delete(container)
        except CridError as error:
            logger.warning("cannot delete a leftover container%s", fields(container=container.id, error=error))
        await create.discard(self._parts, container.id)


def _stopped_by_reboot(status: SandboxStatus) -> SandboxStatus:
    return replace(status, stopped_at=time.time_ns(), network_released=True)


def _stub(identifier: str, parts: Parts) -> ContainerMetadata:
    """Return just enough metadata to delete what may be left of a container that has no record."""
    return ContainerMetadata(
        id=identifier,
        name="",
        sandbox_id="",
        config=cri.ContainerConfig(),
        runtime_handler=parts.runtime.default,
        image_id="",
        image_ref="",
        created_at=0,
        bundle=create.bundle_path(parts, identifier),
        persist_directory=parts.state.container_directory(identifier),
        log_path="",
        cgroup_path="",
    )


def _hold(names: NameRegistry, name: str, holder: str) -> None:
    try:
        names.reserve(name, holder).step = ""
    except CridError as error:
        logger.warning("two records with one name%s", fields(error=error))
