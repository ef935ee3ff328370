"""Who is told of what pods and containers go through, and may adjust and refuse it.

The use cases call these where the thing happens; they know nothing of who listens. What may be refused raises; what has
happened already does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crid.cri import api_pb2 as cri
from crid.model.container import Container
from crid.model.sandbox import PodSandbox


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A container's OCI spec as it shall be. `resources` are its limits in the CRI's words, None for those of its config."""

    spec: Mapping[str, Any]
    resources: cri.LinuxContainerResources | None = None


class Hooks(Protocol):
    """The moments, in the order of a life. Those of `run_pod`, `create_container`, `start_container`, `update_container`
    and `update_pod` come before the fact, and raise CridError to prevent it; the others come after it, and raise nothing."""

    async def run_pod(self, sandbox: PodSandbox) -> None:
        """The pod is built and about to be published."""

    async def pod_failed(self, sandbox: PodSandbox) -> None:
        """The pod of `run_pod` will not be, whoever prevented it."""

    async def pod_created(self, sandbox: PodSandbox) -> None:
        """The pod is published, ready for containers."""

    async def create_container(self, container: Container, spec: Mapping[str, Any]) -> Adjusted:
        """The container has its root file system and its spec, and no process yet."""

    async def container_failed(self, container: Container) -> None:
        """The container of `create_container` will not be, whoever prevented it."""

    async def container_created(self, container: Container) -> None:
        """The container is published."""

    async def start_container(self, container: Container) -> None:
        """The container is about to be started."""

    async def container_started(self, container: Container) -> None:
        """It has been started."""

    async def update_container(
        self, container: Container, resources: cri.LinuxContainerResources
    ) -> cri.LinuxContainerResources:
        """The container is about to get `resources`; return what it shall get."""

    async def container_updated(self, container: Container) -> None:
        """The container has new limits."""

    async def update_pod(
        self, sandbox: PodSandbox, overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources
    ) -> None:
        """The pod is about to get these limits."""

    async def pod_updated(self, sandbox: PodSandbox) -> None:
        """The pod has new limits."""

    async def container_stopped(self, container: Container) -> None:
        """The container has ended, by itself or not. May be called again."""

    async def container_removed(self, container: Container) -> None:
        """The container is gone."""

    async def pod_stopped(self, sandbox: PodSandbox) -> None:
        """The pod's containers have ended; it still has its network and its namespaces. May be called again."""

    async def pod_removed(self, sandbox: PodSandbox) -> None:
        """The pod is gone."""


class NoHooks(Hooks):
    """Nobody listens; what a listener that wants only some of the moments begins with."""

    async def run_pod(self, sandbox: PodSandbox) -> None:
        pass

    async def pod_failed(self, sandbox: PodSandbox) -> None:
        pass

    async def pod_created(self, sandbox: PodSandbox) -> None:
        pass

    async def create_container(self, container: Container, spec: Mapping[str, Any]) -> Adjusted:
        return Adjusted(spec)

    async def container_failed(self, container: Container) -> None:
        pass

    async def container_created(self, container: Container) -> None:
        pass

    async def start_container(self, container: Container) -> None:
        pass

    async def container_started(self, container: Container) -> None:
        pass

    async def update_container(
        self, container: Container, resources: cri.LinuxContainerResources
    ) -> cri.LinuxContainerResources:
        return resources

    async def container_updated(self, container: Container) -> None:
        pass

    async def update_pod(
        self, sandbox: PodSandbox, overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources
    ) -> None:
        pass

    async def pod_updated(self, sandbox: PodSandbox) -> None:
        pass

    async def container_stopped(self, container: Container) -> None:
        pass

    async def container_removed(self, container: Container) -> None:
        pass

    async def pod_stopped(self, sandbox: PodSandbox) -> None:
        pass

    async def pod_removed(self, sandbox: PodSandbox) -> None:
        pass
