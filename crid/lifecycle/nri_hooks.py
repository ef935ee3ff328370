"""The hooks of pods and containers as NRI's events.

Plugins are asked one after the other, in their order. What a plugin refuses fails before the fact; a refusal after the fact
is logged. A plugin that does not answer in time is dropped (`crid.nri.plugin`), so an event takes at most one timeout a
plugin.
"""

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from crid.cri import api_pb2 as cri
from crid.cri import nri_pb2 as nri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError
from crid.lifecycle.hooks import Adjusted, Hooks
from crid.lifecycle.nri_messages import container_message, pod_message
from crid.lifecycle.validate import require_cpuset
from crid.log import fields
from crid.model.container import Container
from crid.model.resources import merge_resources
from crid.model.sandbox import PodSandbox
from crid.nri.adjust import Adjustments, FindDevices
from crid.nri.plugin import Plugin, PluginRefusalError, Timeouts
from crid.nri.plugins import Plugins
from crid.nri.resources import check_changeable, from_cri, to_cri
from crid.oci.classes import Classes
from crid.store.memory import Storer
from crid.tasks import Supervisor

logger = logging.getLogger(__name__)

EVICTION_GRACE = 30.0
"""Seconds between the stop signal and the kill for a container that a plugin evicts."""

ANSWERS: dict[nri.Event.ValueType, type[Message]] = {
    nri.POST_CREATE_CONTAINER: nri.PostCreateContainerResponse,
    nri.POST_START_CONTAINER: nri.PostStartContainerResponse,
    nri.POST_UPDATE_CONTAINER: nri.PostUpdateContainerResponse,
    nri.REMOVE_CONTAINER: nri.RemoveContainerResponse,
}
"""Of events of containers whose answers say nothing."""

M = TypeVar("M", bound=Message)


class Containers(Protocol):
    """What plugins may do to containers."""

    async def limit(self, identifier: str, resources: cri.LinuxContainerResources) -> None:
        """Change limits; no plugin is asked."""

    def stop(self, identifier: str, timeout: float) -> Coroutine[Any, Any, None]:
        """Stop the container."""


class NriHooks(Hooks):
    """From `start` to `stop`; before, there are no plugins, and nothing is told to anybody."""

    def __init__(
        self,
        sandboxes: Storer[PodSandbox],
        containers: Storer[Container],
        supervisor: Supervisor,
        timeouts: Timeouts,
        find_devices: FindDevices,
        classes: Classes,
    ) -> None:
        self._find_devices = find_devices
        self._classes = classes
        self._sandboxes = sandboxes
        self._containers = containers
        self._supervisor = supervisor
        self._plugins = Plugins(self, timeouts)
        self._verbs: Containers | None = None
        self._making_pods: dict[str, PodSandbox] = {}
        self._making: dict[str, tuple[Container, Mapping[str, Any]]] = {}

    async def start(self, path: Path, verbs: Containers) -> None:
        """Let plugins connect to the socket `path`. Raises AlreadyExistsError or UnavailableError."""
        self._verbs = verbs
        await self._plugins.start(path)

    async def stop(self) -> None:
        """Hang up on the plugins."""
        await self._plugins.stop()

    # What plugins see and do.

    def inventory(self) -> tuple[list[nri.PodSandbox], list[nri.Container]]:
        """Return what exists, and what is being made and was told to the plugins that there are."""
        pods = {item.id: item for item in (*self._making_pods.values(), *self._sandboxes.list())}
        making = [container_message(*found) for key, found in self._making.items() if self._containers.find(key) is None]
        known = [container_message(item) for item in self._containers.list()]
        return [pod_message(item) for item in pods.values()], [*making, *known]

    async def update(self, updates: Sequence[nri.ContainerUpdate]) -> list[nri.ContainerUpdate]:
        """Change limits of containers and return those updates that failed and may not be ignored."""
        failed = []
        for update in updates:
            try:
                await self._update_one(update)
            except CridError as error:
                logger.warning(
                    "an NRI plugin's update failed%s",
                    fields(container=update.container_id, ignored=update.ignore_failure, why=error),
                )
                if not update.ignore_failure:
                    failed.append(update)
        return failed

    async def _update_one(self, update: nri.ContainerUpdate) -> None:
        if not update.container_id:
            raise InvalidArgumentError("the update names no container")
        if self._verbs is None:
            raise FailedPreconditionError("the daemon does not serve plugins yet")
        check_changeable(update.linux.resources)
        await self._verbs.limit(update.container_id, to_cri(update.linux.resources))

    async def evict(self, evictions: Sequence[nri.ContainerEviction]) -> None:
        """Have containers stopped; nobody waits for it."""
        for eviction in evictions:
            if eviction.container_id and self._verbs is not None:
                logger.info("an NRI plugin evicts a container%s", fields(container=eviction.container_id, why=eviction.reason))
                stopping = self._verbs.stop(eviction.container_id, EVICTION_GRACE)
                self._supervisor.start_logged(stopping, f"eviction of {eviction.container_id}")

    # Pods.

    async def run_pod(self, sandbox: PodSandbox) -> None:
        self._making_pods[sandbox.id] = sandbox
        try:
            request = nri.RunPodSandboxRequest(pod=pod_message(sandbox))
            for plugin in self._plugins.current():
                await plugin.ask(nri.RUN_POD_SANDBOX, request, nri.RunPodSandboxResponse)
        finally:
            del self._making_pods[sandbox.id]  # its caller publishes it without waiting for anything

    async def pod_failed(self, sandbox: PodSandbox) -> None:
        await self.pod_stopped(sandbox)
        await self.pod_removed(sandbox)

    async def pod_created(self, sandbox: PodSandbox) -> None:
        pass  # NRI has no event for it

    async def update_pod(
        self, sandbox: PodSandbox, overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources
    ) -> None:
        request = nri.UpdatePodSandboxRequest(
            pod=pod_message(sandbox), overhead_linux_resources=from_cri(overhead), linux_resources=from_cri(resources)
        )
        for plugin in self._plugins.current():
            await plugin.ask(nri.UPDATE_POD_SANDBOX, request, nri.UpdatePodSandboxResponse)

    async def pod_updated(self, sandbox: PodSandbox) -> None:
        request = nri.PostUpdatePodSandboxRequest(pod=pod_message(sandbox))
        await self._tell(nri.POST_UPDATE_POD_SANDBOX, request, nri.PostUpdatePodSandboxResponse)

    async def pod_stopped(self, sandbox: PodSandbox) -> None:
        request = nri.StopPodSandboxRequest(pod=pod_message(sandbox))
        await self._tell(nri.STOP_POD_SANDBOX, request, nri.StopPodSandboxResponse)

    async def pod_removed(self, sandbox: PodSandbox) -> None:
        request = nri.RemovePodSandboxRequest(pod=pod_message(sandbox))
        await self._tell(nri.REMOVE_POD_SANDBOX, request, nri.RemovePodSandboxResponse)

    # Containers.

    async def create_container(self, container: Container, spec: Mapping[str, Any]) -> Adjusted:
        self._making[container.id] = (container, spec)
        plugins = self._plugins.current()  # in the same step: a plugin that comes later finds it in the inventory
        if not plugins:
            return Adjusted(spec)
        pod = self._pod_of(container)
        adjustments = Adjustments(container.id, spec, self._find_devices, self._classes)
        updates: list[nri.ContainerUpdate] = []
        for plugin in plugins:
            described = container_message(container, adjustments.spec)
            request = nri.CreateContainerRequest(pod=pod, container=described)
            answer = await plugin.ask(nri.CREATE_CONTAINER, request, nri.CreateContainerResponse)
            if answer is not None:
                require_cpuset(to_cri(answer.adjust.linux.resources), f"NRI plugin {plugin.title}: ")
                adjustments.apply(plugin.title, answer.adjust)
                updates.extend(answer.update)
                await self.evict(answer.evict)
        if not adjustments.made and not updates:
            return Adjusted(spec)
        described = container_message(container, spec)
        await self._validate(plugins, pod, described, adjustments, updates)
        await self.update(updates)
        self._making[container.id] = (container, adjustments.spec)
        asked = adjustments.whole.linux
        if not asked.HasField("resources"):
            return Adjusted(adjustments.spec)
        limits = container.status.resources or container.metadata.config.linux.resources
        return Adjusted(adjustments.spec, merge_resources(limits, to_cri(asked.resources)))

    async def _validate(
        self,
        plugins: Sequence[Plugin],
        pod: nri.PodSandbox,
        container: nri.Container,
        adjustments: Adjustments,
        updates: Sequence[nri.ContainerUpdate],
    ) -> None:
        """Ask the plugins that watch over others."""
        request = nri.ValidateContainerAdjustmentRequest(
            pod=pod,
            container=container,
            adjust=adjustments.whole,
            update=updates,
            owners=adjustments.owners.message(),
            plugins=[nri.PluginInstance(name=plugin.name, index=plugin.index) for plugin in plugins],
        )
        for plugin in plugins:
            answer = await plugin.ask(nri.VALIDATE_CONTAINER_ADJUSTMENT, request, nri.ValidateContainerAdjustmentResponse)
            if answer is not None and answer.reject:
                raise PluginRefusalError(f"NRI plugin {plugin.title} rejects the adjustments: {answer.reason}")

    async def container_failed(self, container: Container) -> None:
        if self._making.pop(container.id, None) is not None:
            await self.container_stopped(container)
            await self.container_removed(container)

    async def container_created(self, container: Container) -> None:
        self._making.pop(container.id, None)
        await self._tell_container(nri.POST_CREATE_CONTAINER, container, nri.PostCreateContainerRequest)

    async def start_container(self, container: Container) -> None:
        plugins = self._plugins.current()
        if plugins:
            request = nri.StartContainerRequest(pod=self._pod_of(container), container=container_message(container))
            for plugin in plugins:
                await plugin.ask(nri.START_CONTAINER, request, nri.StartContainerResponse)

    async def container_started(self, container: Container) -> None:
        await self._tell_container(nri.POST_START_CONTAINER, container, nri.PostStartContainerRequest)

    async def update_container(
        self, container: Container, resources: cri.LinuxContainerResources
    ) -> cri.LinuxContainerResources:
        others: list[nri.ContainerUpdate] = []
        for plugin in self._plugins.current():
            request = nri.UpdateContainerRequest(
                pod=self._pod_of(container), container=container_message(container), linux_resources=from_cri(resources)
            )
            answer = await plugin.ask(nri.UPDATE_CONTAINER, request, nri.UpdateContainerResponse)
            if answer is None:
                continue
            for update in answer.update:
                if update.container_id == container.id:
                    check_changeable(update.linux.resources)
                    resources = merge_resources(resources, to_cri(update.linux.resources))
                else:
                    others.append(update)
            await self.evict(answer.evict)
        if others:  # not awaited: two updates that each wait for the other's container would wait for ever
            self._supervisor.start_logged(self.update(others), "updates of an NRI plugin")
        return resources

    async def container_updated(self, container: Container) -> None:
        await self._tell_container(nri.POST_UPDATE_CONTAINER, container, nri.PostUpdateContainerRequest)

    async def container_stopped(self, container: Container) -> None:
        plugins = self._plugins.current()
        if plugins:
            request = nri.StopContainerRequest(pod=self._pod_of(container), container=container_message(container))
            for answer in await self._tell(nri.STOP_CONTAINER, request, nri.StopContainerResponse):
                await self.update(answer.update)

    async def container_removed(self, container: Container) -> None:
        await self._tell_container(nri.REMOVE_CONTAINER, container, nri.RemoveContainerRequest)

    def _pod_of(self, container: Container) -> nri.PodSandbox:
        sandbox = self._sandboxes.find(container.metadata.sandbox_id)
        return pod_message(sandbox) if sandbox is not None else nri.PodSandbox(id=container.metadata.sandbox_id)

    async def _tell_container(self, event: nri.Event.ValueType, container: Container, request: Callable[..., Message]) -> None:
        if self._plugins.current():
            message = request(pod=self._pod_of(container), container=container_message(container))
            await self._tell(event, message, ANSWERS[event])

    async def _tell(self, event: nri.Event.ValueType, request: Message, answer: type[M]) -> list[M]:
        """Send an event that cannot be refused and return the answers."""
        answers = []
        for plugin in self._plugins.current():
            try:
                answered = await plugin.ask(event, request, answer)
            except PluginRefusalError as error:
                logger.warning("an NRI plugin's refusal comes too late%s", fields(why=error))
            else:
                answers += [answered] if answered is not None else []
        return answers
