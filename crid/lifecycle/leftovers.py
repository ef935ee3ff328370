"""Removing what nobody needs any more, by the functions that remove pods and containers in ordinary operation.

What is a leftover is said in `crid.lifecycle.check.compare`. Everything here may be interrupted and done again: an object's
directories, by which it is found, go last.
"""

import asyncio
import json
import logging
import shutil
import signal
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.errors import CridError
from crid.lifecycle import create, log_links, sandbox
from crid.lifecycle.check.facts import Facts, Kind, Trace
from crid.lifecycle.check.gather import Places, gather, local_traces
from crid.lifecycle.parts import Parts
from crid.linux import process
from crid.log import fields
from crid.model.container import Container, ContainerMetadata, ContainerStatus
from crid.model.process import ProcessIdentity
from crid.oci import descendants
from crid.store.state import Found

logger = logging.getLogger(__name__)

COMMAND_PATIENCE = 10.0
"""Seconds for the commands of a dead daemon to end by themselves. They take milliseconds."""
END_TIMEOUT = 5.0
"""Seconds for a killed process to be gone."""
_ROUNDS = 5
"""How often processes of one container are looked for: one that was killed may just have forked."""


class Leftovers:
    """Finds leftovers, and removes them."""

    def __init__(self, parts: Parts, places: Places) -> None:
        self._parts = parts
        self._places = places

    async def look(self) -> Facts:
        """Return the facts, with what is known in memory as the records."""
        known = Found(self._parts.sandboxes.list(), self._parts.containers.list(), {}, [])
        return await asyncio.to_thread(gather, self._places, known, self._mounts())

    async def end_commands(self) -> int:
        """Wait for the short commands that a dead daemon began; end the execs, whose clients are gone with it. Return how
        many of these there were."""
        traces = await asyncio.to_thread(local_traces, self._places, ())
        running = [trace.process for trace in traces if trace.kind is Kind.COMMAND and trace.process]
        try:
            async with asyncio.timeout(COMMAND_PATIENCE):
                await asyncio.gather(*map(process.wait_gone, running))
        except TimeoutError:
            logger.error("commands of the last daemon do not end, and are killed%s", fields(count=len(running)))
            await self._end(running)
        execs = [trace for trace in traces if trace.kind is Kind.EXEC and trace.process]
        for trace in execs:
            logger.info("ending a command whose client is gone%s", fields(container=trace.owner, where=trace.place))
        await self._end([trace.process for trace in execs if trace.process])
        for bundle in (self._places.run_root / "containers").glob("*"):
            for path in bundle.glob("exec-*.pid"):
                path.unlink(missing_ok=True)
        return len(execs)

    async def remove(self, traces: Sequence[Trace]) -> int:
        """Remove these leftovers and return how many objects had some. What cannot be removed is logged."""
        by_owner: dict[tuple[str, str], list[Trace]] = defaultdict(list)
        for trace in traces:
            by_owner[trace.of, trace.owner].append(trace)
        for (of, owner), held in sorted(by_owner.items()):  # containers before pods
            logger.warning("removing leftovers%s", fields(of=of, id=owner, what=", ".join(trace.kind.value for trace in held)))
            try:
                await (self._remove_of_container(owner) if of == "container" else self._remove_of_pod(owner))
            except (CridError, OSError) as error:
                logger.error("cannot remove leftovers%s", fields(of=of, id=owner, error=error))
        return len(by_owner)

    async def _remove_of_pod(self, identifier: str) -> None:
        known = self._parts.sandboxes.find(identifier)
        if known is not None:
            await sandbox.release(self._parts, known.metadata)
        else:
            await self._parts.cgroups.remove_own(identifier)
            await sandbox.discard(self._parts, identifier)

    async def _remove_of_container(self, identifier: str) -> None:
        if self._parts.containers.find(identifier) is not None:
            return  # it may have everything that is a container's, and commands are ended by `end_commands`
        await self._end_monitors(identifier)
        # What is there now: until its end a monitor that was still starting made its notice's room, and the runtime its state.
        traces = [trace for trace in await asyncio.to_thread(local_traces, self._places, ()) if trace.owner == identifier]
        handlers = [
            name
            for name, root in self._places.runtime_roots.items()
            for trace in traces
            if trace.kind is Kind.RUNTIME_STATE and Path(trace.place).parent == root
        ]
        for pod in self._parts.sandboxes.list():  # whose it was to be only its record would say
            log_links.remove(pod.metadata, identifier)
        for name in handlers or [self._parts.runtime.default]:
            await self.discard(self._stub(identifier, name))
        for trace in traces:
            if trace.kind in (Kind.NOTICE, Kind.SOCKET):
                Path(trace.place).unlink(missing_ok=True)
            elif trace.kind is Kind.RUNTIME_STATE:  # the runtime may not know its own half-made state
                shutil.rmtree(trace.place, ignore_errors=True)

    async def discard(self, container: Container) -> None:
        """Remove one container and all it has. Raises CridError, OSError."""
        try:
            await self._parts.runtime.of(container).delete(container)
        except CridError as error:
            logger.warning("cannot delete a leftover container%s", fields(container=container.id, error=error))
        await create.discard(self._parts, container.id)

    async def _end_monitors(self, identifier: str) -> None:
        """End the container's monitors and what is below them: a runtime may be about to make the container."""
        for _ in range(_ROUNDS):
            traces = await asyncio.to_thread(local_traces, self._places, ())
            alive = [trace.process for trace in traces if trace.owner == identifier and trace.process]
            if not alive:
                return
            await self._end(alive)

    @staticmethod
    async def _end(identities: Collection[ProcessIdentity]) -> None:
        for identity in identities:
            if process.is_alive(identity):  # else what is below its number by now is somebody else's
                await descendants.end_below(identity.pid, timeout=END_TIMEOUT)
                process.send_signal(identity, signal.SIGKILL)
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await asyncio.gather(*map(process.wait_gone, identities))
        except TimeoutError:
            logger.error("killed processes are still there%s", fields(count=len(identities)))

    def _stub(self, identifier: str, handler: str) -> Container:
        """Return just enough of a container to delete what the runtime `handler` may have of one that has no record."""
        bundle = create.bundle_path(self._parts, identifier)
        metadata = ContainerMetadata(
            id=identifier,
            name="",
            sandbox_id="",
            config=cri.ContainerConfig(),
            runtime_handler=handler,
            image_id="",
            image_ref="",
            created_at=0,
            bundle=bundle,
            persist_directory=self._parts.state.container_directory(identifier),
            log_path="",
            cgroup_path=_cgroup_of(bundle),
        )
        return Container(metadata, ContainerStatus())

    def _mounts(self) -> list[str]:
        return self._parts.kernel.mounts_below(str(self._places.run_root))


def _cgroup_of(bundle: Path) -> str:
    """Return the cgroup that a bundle's config.json names, empty if it names none."""
    try:
        return str(json.loads((bundle / "config.json").read_bytes())["linux"]["cgroupsPath"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
