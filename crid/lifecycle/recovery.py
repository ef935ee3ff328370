"""What a new daemon makes of what an old one left: records, monitors that went on, exit files, half-made things.

Assumptions: nobody else changes the directories; a monitor outlives the daemon and reports into files; after a reboot,
which another boot id tells, no recorded process lives. The daemon serves nobody until this is done.

For each container the facts decide, in this order: an exit that the monitor wrote; a process that is alive; a monitor that
is alive (its report will come); else the exit is lost, and said so. Everything goes through the same calls as in
ordinary operation: there is no second code path that records an exit, or that removes what is left over.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crid import trace
from crid.errors import CridError
from crid.lifecycle.check.compare import Held, Phase, container_phase, leftovers, missing_of_pod, pod_phase, survives
from crid.lifecycle.check.facts import Facts
from crid.lifecycle.exits import ExitFacts, Exits
from crid.lifecycle.leftovers import Leftovers
from crid.lifecycle.parts import Parts
from crid.lifecycle.pod_network import pod_network
from crid.linux import process
from crid.linux.boot import boot_id
from crid.log import fields
from crid.model.container import Container, ContainerState, ContainerStatus
from crid.model.sandbox import PodSandbox, SandboxStatus
from crid.store.names import NameRegistry

logger = logging.getLogger(__name__)

ANSWERS = 30.0
"""Seconds for the runtimes to tell how all living containers are, of which each takes milliseconds."""
ASKED = 8
"""Containers that are asked after at a time."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found."""

    sandboxes: int
    containers: int
    running: int
    discarded: int
    """Objects that had something which nobody needs any more."""
    stopping: tuple[PodSandbox, ...] = ()
    """The pods whose stop was begun: whoever called this finishes it, once it can wait."""
    ended: tuple[Container, ...] = ()
    """The containers that have ended since the machine's start: what they left running may not have been ended yet, which is
    for whoever called this, too."""


class Recovery:
    """One recovery, at start. `read_exit` returns what the monitor wrote about a container, or None."""

    def __init__(
        self, parts: Parts, exits: Exits, read_exit: Callable[[Container], ExitFacts | None], removing: Leftovers
    ) -> None:
        self._parts = parts
        self._exits = exits
        self._read_exit = read_exit
        self._leftovers = removing

    async def run(self) -> Recovered:
        """Find everything again, finish what ended meanwhile, take apart what was half made.

        Raises FailedPreconditionError if a newer crid wrote a record.
        """
        trace.step("recovery", "ending commands whose clients are gone")
        await self._leftovers.end_commands()
        trace.step("recovery", "reading the records of pods")
        self._load_sandboxes()
        trace.step("recovery", "reading the records of containers")
        discarded = await self._load_containers()
        living = []
        for container in self._parts.containers.list():
            try:
                trace.step("recovery", "settling a container")
                if await self._settle(container):
                    living.append(container)
            except CridError as error:  # such as one that the kernel does not let end
                logger.error("cannot recover a container%s", fields(container=container.id, error=error))
        await self._observe_all(living)
        trace.step("recovery", "removing leftovers")
        facts = await self._leftovers.look()
        stopping = self._begun_stops(facts)
        self._stop_broken(facts)
        discarded += await self._leftovers.remove(leftovers(facts))
        ended = (ContainerState.STOPPED, ContainerState.UNKNOWN)
        await self._parts.tuning.recover({item.id for item in self._parts.containers.list() if item.status.state not in ended})
        trace.step("recovery", "settling the network")
        ready = [item.metadata for item in self._parts.sandboxes.list() if not item.status.network_released]
        await self._parts.network.retain([pod_network(metadata) for metadata in ready if metadata.namespaces.net])
        trace.step("recovery", "ending")
        containers = self._parts.containers.list()
        return Recovered(
            self._parts.sandboxes.size(),
            len(containers),
            sum(item.status.state is ContainerState.RUNNING for item in containers),
            discarded,
            stopping,
            tuple(item for item in containers if item.status.finished_at and survives(item.metadata, boot_id())),
        )

    def _load_sandboxes(self) -> None:
        for found in self._parts.state.load_sandboxes():
            self._parts.sandboxes.add(found)
            _hold(self._parts.sandbox_names, found.metadata.name, found.id, found.created_at)
            if not found.status.network_released and not survives(found.metadata, boot_id()):
                logger.info("pod did not survive a reboot%s", fields(pod=found.id, name=found.metadata.name))
                self._parts.state.record_sandbox(found, _stopped_by_reboot)

    async def _load_containers(self) -> int:
        discarded = 0
        for found in self._parts.state.load_containers():
            if self._parts.sandboxes.find(found.metadata.sandbox_id) is None:
                logger.warning(
                    "container without its pod is discarded%s", fields(container=found.id, pod=found.metadata.sandbox_id)
                )
                try:
                    await self._leftovers.discard(found)
                except (CridError, OSError) as error:  # what is left of it has no owner, and is tried again with the leftovers
                    logger.error("cannot remove a container%s", fields(container=found.id, error=error))
                discarded += 1
                continue
            self._parts.containers.add(found)
            _hold(self._parts.container_names, found.metadata.name, found.id, found.created_at)
        return discarded

    async def _settle(self, container: Container) -> bool:
        """Bring one container's status up to date, and return whether its process lives: the runtime knows the rest then."""
        rebooted = not survives(container.metadata, boot_id())
        runtime = self._parts.runtime.of(container)
        alive = not rebooted and runtime.is_alive(container)
        if container.status.state is ContainerState.STOPPED:
            if alive:
                logger.error("a container that is recorded as ended runs: it is killed%s", fields(container=container.id))
                await runtime.stop(container, signal.SIGKILL, 0)
            return False
        facts = self._read_exit(container)
        if alive:
            return True
        if facts is not None:
            self._exits.record(container, facts.exit_code, facts.finished_at, oom_killed=facts.oom_killed)
        elif rebooted:
            self._exits.record_lost(container, time.time_ns(), "the machine was restarted while it ran")
        elif not process.is_alive(container.status.monitor):
            self._exits.record_lost(container, time.time_ns(), "it ended while crid was not running, and so did its monitor")
        return False

    async def _observe_all(self, living: Sequence[Container]) -> None:
        """Ask after these containers, first those of which no start is recorded. A runtime that hangs holds up the daemon once,
        not for each of them; what it would have said stays as it is recorded."""
        unanswered = {container.id for container in living}
        turns = asyncio.Semaphore(ASKED)

        async def ask(container: Container) -> None:
            async with turns:
                await self._observe(container)
                unanswered.discard(container.id)

        try:
            async with asyncio.timeout(ANSWERS), asyncio.TaskGroup() as group:
                for container in sorted(living, key=lambda container: container.status.started_at > 0):
                    group.create_task(ask(container))
        except TimeoutError:
            words = fields(containers=",".join(sorted(unanswered)), seconds=ANSWERS)
            logger.error("runtimes do not tell how containers are, which are taken to be as recorded%s", words)

    async def _observe(self, container: Container) -> None:
        """The process lives: ask the runtime whether it was started, in case the daemon died before it wrote that down."""
        if not process.is_alive(container.status.monitor):
            logger.warning(
                "container runs without its monitor: its exit code will be unknown%s", fields(container=container.id)
            )
        try:
            observed = await self._parts.runtime.of(container).update_status(container)
        except (CridError, OSError) as error:
            logger.warning("cannot ask for a container's state%s", fields(container=container.id, error=error))
            return

        def change(status: ContainerStatus) -> ContainerStatus:
            started = observed.state in ("running", "paused")
            started_at = status.started_at or (time.time_ns() if started else 0)
            return replace(status, started_at=started_at, paused=observed.state == "paused")

        self._parts.state.record_container(container, change)

    def _begun_stops(self, facts: Facts) -> tuple[PodSandbox, ...]:
        """Return the pods whose stop was begun. One that lacks something while a container in it lives is none of these: a stop
        ends the containers first. An earlier start has found it broken, and left its containers to the client."""
        held = Held(facts.traces)
        living = [item for item in self._parts.containers.list() if container_phase(item, facts.boot) is Phase.LIVE]
        inhabited = {item.metadata.sandbox_id for item in living}
        stopping = [item for item in self._parts.sandboxes.list() if pod_phase(item, facts.boot) is Phase.STOPPING]
        return tuple(item for item in stopping if item.id not in inhabited or not any(missing_of_pod(item, held, facts.alive)))

    def _stop_broken(self, facts: Facts) -> None:
        """Have pods not ready that lost what makes them pods: the client then makes them anew, with grace for what runs."""
        held = Held(facts.traces)
        for sandbox in self._parts.sandboxes.list():
            if pod_phase(sandbox, facts.boot) is Phase.READY:
                for problem in missing_of_pod(sandbox, held, facts.alive):
                    logger.error("a pod is broken and so not ready%s", fields(pod=sandbox.id, why=problem))
                    self._parts.state.record_sandbox(sandbox, lambda status: replace(status, stopped_at=time.time_ns()))
                    break


def _stopped_by_reboot(status: SandboxStatus) -> SandboxStatus:
    return replace(status, stopped_at=status.stopped_at or time.time_ns(), network_released=True)


def _hold(names: NameRegistry, name: str, holder: str, created_at: int) -> None:
    try:
        names.hold(name, holder, created_at)
    except CridError as error:
        logger.warning("two records with one name%s", fields(error=error))
