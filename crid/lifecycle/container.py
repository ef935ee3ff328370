"""A container from CreateContainer to its removal; how one is put together stands in `crid.lifecycle.create`.

Nothing here holds a lock over a grace period. A container's verbs may meet: a stop while it starts, a removal while it
stops. The runtime's own rules settle what the process does, the exit record what is true afterwards.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from crid import trace
from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, NotFoundError
from crid.lifecycle import log_links
from crid.lifecycle.create import ContainerCreation, discard
from crid.lifecycle.exits import Exits
from crid.lifecycle.inflight import Inflight
from crid.lifecycle.parts import Parts
from crid.lifecycle.resources import update_container, updated
from crid.lifecycle.retries import container_made_by
from crid.lifecycle.validate import require_container
from crid.log import fields
from crid.model import ids
from crid.model.container import Container, ContainerState, ContainerStatus
from crid.oci.spec import signals
from crid.tasks import KeyedLock

logger = logging.getLogger(__name__)


class ContainerLifecycle:
    """The verbs of a container. Each is safe to call again, concurrently and after a failure."""

    def __init__(self, parts: Parts, exits: Exits) -> None:
        self._parts = parts
        self._exits = exits
        self._creating: Inflight[Container] = Inflight(parts.supervisor, "CreateContainer")
        self._launching: Inflight[None] = Inflight(parts.supervisor, "StartContainer")
        self._removals: Inflight[None] = Inflight(parts.supervisor, "RemoveContainer")
        self._starting = KeyedLock()
        self._removing = KeyedLock()
        self._updating = KeyedLock()

    async def create(self, sandbox_id: str, config: cri.ContainerConfig) -> Container:
        """Create the container in a ready pod and return it; a repeated request gets the container of the first.

        Raises NotFoundError for an unknown pod or image, FailedPreconditionError for a stopped pod, AlreadyExistsError if
        the name is taken, InvalidArgumentError for a config that contradicts itself, and what the runtime raises. Whatever
        it raises, nothing of the container is left.
        """
        sandbox = self._parts.sandboxes.get(sandbox_id)
        require_container(config)
        pod = sandbox.metadata.config.metadata
        name = ids.container_name(config.metadata.name, pod.name, pod.namespace, pod.uid, config.metadata.attempt)
        if (made := container_made_by(self._parts, name, sandbox, config)) is not None:
            return made
        request = sandbox.id.encode() + config.SerializeToString(deterministic=True)
        creation = ContainerCreation(self._parts, sandbox, config, name)
        return await self._creating.run(name, request, creation.run)

    async def start(self, identifier: str) -> None:
        """Run the created container's program. A program that cannot be run leaves the container stopped, with the reason.

        A repeated request joins the running one; for a container that runs there is nothing left to do.
        """
        container = self._parts.containers.get(identifier)
        await self._launching.run(container.id, b"", lambda: self._start(container))

    async def _start(self, container: Container) -> None:
        async with self._starting.hold(container.id):
            state = container.status.state
            if state in (ContainerState.RUNNING, ContainerState.PAUSED):
                return
            if state is not ContainerState.CREATED:
                why = container.status.message or "it cannot be started again"
                raise FailedPreconditionError(f"container {container.id} is {state.value}, not created: {why}")
            if not self._parts.sandboxes.get(container.metadata.sandbox_id).status.ready:
                raise FailedPreconditionError(f"container {container.id}: its pod {container.metadata.sandbox_id} is stopped")
            trace.step("container start", "asking plugins")
            await self._parts.hooks.start_container(container)
            began = time.time_ns()
            try:
                trace.step("container start", "tuning the host")
                await self._parts.tuning.before_start(container)
                trace.step("container start", "starting its program")
                await self._parts.runtime.of(container).start(container)
            except CridError as error:
                await self._start_failed(container, str(error))
                raise
            trace.step("container start", "noting that it runs")
            self._parts.state.record_container(container, lambda status: _started(status, began))
            trace.step("container start", "telling plugins")
            await self._parts.hooks.container_started(container)
        logger.info("container is started%s", fields(container=ids.short(container.id), name=container.metadata.name))

    async def _start_failed(self, container: Container, message: str) -> None:
        trace.step("container start", "noting that it failed")
        self._exits.record_failed_start(container, time.time_ns(), message)
        self._parts.tuning.after_end(container)
        runtime = self._parts.runtime.of(container)
        try:
            trace.step("container start", "deleting what failed")
            await runtime.stop(container, signal.SIGKILL, 0)  # a runtime that hangs or is gone would leave its process
            await runtime.delete(container)
        except (CridError, OSError) as error:
            logger.warning("cannot delete what failed to start%s", fields(container=container.id, error=error))
        await self._parts.hooks.container_stopped(container)

    async def stop(self, identifier: str, timeout: float) -> None:
        """Send the stop signal, wait `timeout` seconds, kill; return when the exit is recorded.

        Does nothing for an unknown or ended container. A cancelled call does not kill later, unless another one waits.
        """
        container = self._parts.containers.find(identifier)
        if container is not None:
            await self._stop(container, timeout)

    async def _stop(self, container: Container, timeout: float) -> None:
        state = container.status.state
        if state is ContainerState.STOPPED:
            return
        if state is ContainerState.CREATED:
            timeout = 0  # its program does not run yet, so nobody there could heed the signal
        runtime = self._parts.runtime.of(container)
        try:
            trace.step("container stop", "stopping its process")
            await runtime.stop(container, signals.number(container.metadata.stop_signal), timeout)
        except NotFoundError:
            if runtime.is_alive(container):
                raise
        trace.step("container stop", "waiting for its exit code")
        if await self._exits.settle(container):  # no notice came, so nobody else will do it
            self._parts.tuning.after_end(container)
        trace.step("container stop", "telling plugins")
        await self._tell_end(container)

    async def _tell_end(self, container: Container) -> None:
        """Tell of an end that is recorded, once a start that is under way has been told: a program may end at once.

        A removal has told of it; what its monitor says meanwhile comes too late.
        """
        async with self._starting.hold(container.id):
            pass
        if self._parts.containers.find(container.id) is not None:
            await self._parts.hooks.container_stopped(container)

    def ended(self, container: Container) -> None:
        """Do what follows from an exit that has been recorded. Does not block."""
        self._parts.tuning.after_end(container)
        if _shares_processes(container):
            self._parts.supervisor.start_logged(self._end_leftovers(container), f"leftovers of {container.id}")
        self._parts.supervisor.start_logged(self._tell_end(container), f"end of {container.id}")

    async def _end_leftovers(self, container: Container) -> None:
        await self._parts.runtime.of(container).stop(container, signal.SIGKILL, 0)

    async def end_leftovers(self, ended: Iterable[Container]) -> None:
        """Kill what containers have left running that ended while no daemon was there to do so, or just before it died.

        One after the other: there may be many, of which few have left anything. Raises nothing: the log has what failed.
        """
        for container in filter(_shares_processes, ended):
            try:
                await self._end_leftovers(container)
            except (CridError, OSError) as error:
                logger.error("cannot end what a container left running%s", fields(container=container.id, error=error))

    async def stop_all(self, sandbox_id: str) -> None:
        """End every container of a pod at once, by force: who stops a pod has stopped its containers before (CRI)."""
        await self._for_each(sandbox_id, lambda container: self._stop(container, 0))

    async def remove(self, identifier: str) -> None:
        """Kill the container if it runs and remove everything it kept, but its log. Does nothing for an unknown container.

        A repeated request joins the running one.
        """
        container = self._parts.containers.find(identifier)
        if container is not None:
            await self._removals.run(container.id, b"", lambda: self._remove(container))

    async def _remove(self, container: Container) -> None:
        async with self._removing.hold(container.id):
            if self._parts.containers.find(container.id) is None:
                return
            await self._stop(container, 0)
            trace.step("container removal", "telling plugins of its end")
            await self._tell_end(container)
            async with self._starting.hold(container.id):  # a start that was cut off writes down that it failed
                trace.step("container removal", "setting the host back")
                self._parts.tuning.after_end(container)
                trace.step("container removal", "deleting its process")
                await self._parts.runtime.of(container).delete(container)
                if (pod := self._parts.sandboxes.find(container.metadata.sandbox_id)) is not None:
                    log_links.remove(pod.metadata, container.id)  # while the record leads to it
                await discard(self._parts, container.id)
                trace.step("container removal", "giving its name back")
                self._parts.containers.delete(container.id)
                self._parts.container_names.release(container.metadata.name, container.id)
                self._exits.forget(container)
            await self._parts.hooks.container_removed(container)
        logger.info("container is removed%s", fields(container=ids.short(container.id), name=container.metadata.name))

    async def remove_all(self, sandbox_id: str) -> None:
        """Remove every container of a pod."""
        await self._for_each(sandbox_id, self._remove)

    async def _for_each(self, sandbox_id: str, action: Callable[[Container], Coroutine[Any, Any, None]]) -> None:
        """Act on all containers of a pod at once; every one is tried before the first failure is raised."""
        containers = [item for item in self._parts.containers.list() if item.metadata.sandbox_id == sandbox_id]
        results = await asyncio.gather(*(action(container) for container in containers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def update_resources(self, identifier: str, resources: cri.LinuxContainerResources) -> None:
        """Change the limits of a created or running container: all of them, or none with an error.

        A caller that goes while an earlier change is under way has nothing changed.
        """
        container = self._parts.containers.get(identifier)
        turn = await self._updating.take(container.id)
        await self._parts.supervisor.run(
            self._update_resources(container, resources, turn), f"UpdateContainerResources {container.id}"
        )

    async def _update_resources(
        self, container: Container, resources: cri.LinuxContainerResources, turn: AsyncExitStack
    ) -> None:
        async with turn:
            updated(self._parts, container, resources)  # no plugin is asked about what cannot be
            trace.step("container update", "asking plugins")
            resources = await self._parts.hooks.update_container(container, resources)
            await update_container(self._parts, container, resources)
        trace.step("container update", "telling plugins")
        await self._parts.hooks.container_updated(container)

    async def limit(self, identifier: str, resources: cri.LinuxContainerResources) -> None:
        """Like `update_resources`, for a plugin: no hook is called. Raises as that does."""
        container = self._parts.containers.get(identifier)
        turn = await self._updating.take(container.id)
        await self._parts.supervisor.run(self._limit(container, resources, turn), f"limits of {container.id}")

    async def _limit(self, container: Container, resources: cri.LinuxContainerResources, turn: AsyncExitStack) -> None:
        async with turn:
            await update_container(self._parts, container, resources)

    async def reopen_log(self, identifier: str) -> None:
        """Make the monitor write to a new file at the log path. Raises FailedPreconditionError unless it runs."""
        container = self._parts.containers.get(identifier)
        state = container.status.state
        if state not in (ContainerState.RUNNING, ContainerState.PAUSED):
            raise FailedPreconditionError(f"container {container.id} is {state.value}: its log cannot be reopened")
        await self._parts.runtime.of(container).reopen_log(container)


def _started(status: ContainerStatus, began: int) -> ContainerStatus:
    """Return `status` with the start in it. A container that ended at once may be known to have ended before."""
    return replace(status, started_at=began, finished_at=max(status.finished_at, began) if status.finished_at else 0)


def _shares_processes(container: Container) -> bool:
    """Whether its processes may outlive its first one. Those in a PID namespace of its own the kernel kills with it."""
    pid = container.metadata.config.linux.security_context.namespace_options.pid
    return bool(pid != cri.CONTAINER)
