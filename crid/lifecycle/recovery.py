"""What a new daemon makes of what an old one left: records, monitors that went on, exit files, half-made things.

Assumptions: nobody else changes the directories; a monitor outlives the daemon and reports into files; after a reboot the
run directory is empty and no recorded process lives. The daemon serves nobody until this is done.

For each container the facts decide, in this order: an exit that the monitor wrote; a process that is alive; a monitor that
is alive (its report will come); else the exit is lost, and said so. Everything goes through the same calls as in
ordinary operation: there is no second code path that records an exit.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from crid import trace
from crid.cri import api_pb2 as cri
from crid.errors import CridError
from crid.lifecycle import create, sandbox
from crid.lifecycle.exits import ExitFacts, Exits
from crid.lifecycle.parts import Parts
from crid.lifecycle.pod_network import pod_network
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
        trace.step("recovery", "reading the records of pods")
        self._load_sandboxes()
        trace.step("recovery", "reading the records of containers")
        discarded = await self._load_containers()
        for container in self._parts.containers.list():
            try:
                trace.step("recovery", "settling a container")
                await self._settle(container)
            except CridError as error:  # its handler is no longer configured
                logger.error("cannot recover a container%s", fields(container=container.id, error=error))
        trace.step("recovery", "discarding what is incomplete")
        discarded += await self._discard_incomplete()
        ended = (ContainerState.STOPPED, ContainerState.UNKNOWN)
        await self._parts.tuning.recover({item.id for item in self._parts.containers.list() if item.status.state not in ended})
        ready = [item.metadata for item in self._parts.sandboxes.list() if not item.status.network_released]
        trace.step("recovery", "settling the network")
        await self._parts.network.retain([pod_network(metadata) for metadata in ready if metadata.namespaces.net])
        trace.step("recovery", "ending")
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
        """Take apart what has a directory and no record: its creation was cut off, or its record is damaged."""
        found = {(path.parent.name, path.name) for path in [*self._parts.state.incomplete(), *self._strays()]}
        for kind, identifier in sorted(found):  # containers before pods
            logger.warning("object without a record is discarded%s", fields(kind=kind, id=identifier))
            try:
                if kind == "pods":
                    await sandbox.discard(self._parts, identifier)
                else:
                    await self._discard(*(_stub(identifier, self._parts, name) for name in self._parts.runtime.names))
            except (CridError, OSError) as error:
                logger.error("cannot take apart what has no record%s", fields(kind=kind, id=identifier, error=error))
        return len(found)

    def _strays(self) -> Iterator[Path]:
        """Yield the run directories of unknown pods and containers."""
        known = {item.id for store in (self._parts.sandboxes, self._parts.containers) for item in store.list()}
        for directory in (self._parts.run_root / "pods", self._parts.run_root / "containers"):
            if directory.is_dir():
                yield from (path for path in directory.iterdir() if path.is_dir() and path.name not in known)

    async def _discard(self, *candidates: Container) -> None:
        """Take apart one container; `candidates` are the forms in which the runtimes may know it."""
        for container in candidates:
            try:
                await self._parts.runtime.of(container).delete(container)
            except CridError as error:
                logger.warning("cannot delete a leftover container%s", fields(container=container.id, error=error))
        await create.discard(self._parts, candidates[0].id)


def _stopped_by_reboot(status: SandboxStatus) -> SandboxStatus:
    return replace(status, stopped_at=time.time_ns(), network_released=True)


def _stub(identifier: str, parts: Parts, handler: str) -> Container:
    """Return just enough of a container to delete what the runtime `handler` may have of one that has no record."""
    metadata = ContainerMetadata(
        id=identifier,
        name="",
        sandbox_id="",
        config=cri.ContainerConfig(),
        runtime_handler=handler,
        image_id="",
        image_ref="",
        created_at=0,
        bundle=create.bundle_path(parts, identifier),
        persist_directory=parts.state.container_directory(identifier),
        log_path="",
        cgroup_path="",
    )
    return Container(metadata, ContainerStatus())


def _hold(names: NameRegistry, name: str, holder: str) -> None:
    try:
        names.reserve(name, holder).making = None
    except CridError as error:
        logger.warning("two records with one name%s", fields(error=error))
