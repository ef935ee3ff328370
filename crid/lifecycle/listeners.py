"""Several listeners of hooks as one.

Each is asked and told in turn. What one makes of a spec, or of new limits, is what the next one sees; one that refuses
before the fact keeps those after it from being asked, and all hear that the thing failed. A listener that fails after the
fact is logged, and harms nobody.

The use cases tell of an end whenever they come upon it, from several places at once. Here it is told once, and everyone who
tells of it waits until it has been.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from crid.cri import api_pb2 as cri
from crid.lifecycle.hooks import Adjusted, Hooks
from crid.log import fields
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from crid.tasks import Supervisor

logger = logging.getLogger(__name__)

Telling = Callable[[Hooks], Coroutine[Any, Any, None]]


class Listeners(Hooks):
    """`listeners` in their order."""

    def __init__(self, supervisor: Supervisor, *listeners: Hooks) -> None:
        self._supervisor = supervisor
        self._listeners = listeners
        self._ends: dict[str, asyncio.Future[None]] = {}

    def ended_before(self, identifiers: Iterable[str]) -> None:
        """Take note of what had ended before the daemon's start: its end is told to nobody."""
        past: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        past.set_result(None)
        self._ends.update(dict.fromkeys(identifiers, past))

    async def run_pod(self, sandbox: PodSandbox) -> None:
        for each in self._listeners:
            await each.run_pod(sandbox)

    async def pod_failed(self, sandbox: PodSandbox) -> None:
        await self._tell(lambda each: each.pod_failed(sandbox))

    async def pod_created(self, sandbox: PodSandbox) -> None:
        await self._tell(lambda each: each.pod_created(sandbox))

    async def create_container(self, container: Container, spec: Mapping[str, Any]) -> Adjusted:
        whole = Adjusted(spec)
        for each in self._listeners:
            adjusted = await each.create_container(container, whole.spec)
            whole = Adjusted(adjusted.spec, adjusted.resources or whole.resources)
        return whole

    async def container_failed(self, container: Container) -> None:
        await self._tell(lambda each: each.container_failed(container))

    async def container_created(self, container: Container) -> None:
        await self._tell(lambda each: each.container_created(container))

    async def start_container(self, container: Container) -> None:
        for each in self._listeners:
            await each.start_container(container)

    async def container_started(self, container: Container) -> None:
        await self._tell(lambda each: each.container_started(container))

    async def update_container(
        self, container: Container, resources: cri.LinuxContainerResources
    ) -> cri.LinuxContainerResources:
        for each in self._listeners:
            resources = await each.update_container(container, resources)
        return resources

    async def container_updated(self, container: Container) -> None:
        await self._tell(lambda each: each.container_updated(container))

    async def update_pod(
        self, sandbox: PodSandbox, overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources
    ) -> None:
        for each in self._listeners:
            await each.update_pod(sandbox, overhead, resources)

    async def pod_updated(self, sandbox: PodSandbox) -> None:
        await self._tell(lambda each: each.pod_updated(sandbox))

    async def container_stopped(self, container: Container) -> None:
        await self._once(container.id, lambda each: each.container_stopped(container))

    async def container_removed(self, container: Container) -> None:
        await self._tell(lambda each: each.container_removed(container))
        self._ends.pop(container.id, None)

    async def pod_stopped(self, sandbox: PodSandbox) -> None:
        await self._once(sandbox.id, lambda each: each.pod_stopped(sandbox))

    async def pod_removed(self, sandbox: PodSandbox) -> None:
        await self._tell(lambda each: each.pod_removed(sandbox))
        self._ends.pop(sandbox.id, None)

    async def _once(self, identifier: str, tell: Telling) -> None:
        """Tell of an end, or wait until it is told."""
        if identifier not in self._ends:
            self._ends[identifier] = self._supervisor.start(self._tell(tell), f"telling of the end of {identifier}")
        try:
            await asyncio.shield(self._ends[identifier])
        except Exception:
            self._ends.pop(identifier, None)  # who tries again tells again
            raise

    async def _tell(self, tell: Telling) -> None:
        """Tell everyone of what has happened: no fault in the telling may make its cause look failed."""
        for each in self._listeners:
            try:
                await tell(each)
            except Exception:
                logger.exception("a listener failed%s", fields(listener=type(each).__name__))
