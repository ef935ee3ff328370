"""The stats RPCs."""

from collections.abc import AsyncIterator, Iterator

from crid.cri import api_pb2 as cri
from crid.lifecycle.parts import Parts
from crid.lifecycle.stats import Stats
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from crid.server import translate_stats
from crid.server.chunks import chunks
from crid.server.filters import has_labels
from crid.server.typing import Context


class StatisticsRpcs:
    """Stats of one, List and Stream of several, for containers and for pods."""

    _parts: Parts
    _stats: Stats

    async def ContainerStats(self, request: cri.ContainerStatsRequest, context: Context) -> cri.ContainerStatsResponse:
        """Report one container's accounting."""
        reading = await self._stats.container(self._parts.containers.get(request.container_id))
        return cri.ContainerStatsResponse(stats=translate_stats.container_stats(reading))

    async def ListContainerStats(
        self, request: cri.ListContainerStatsRequest, context: Context
    ) -> cri.ListContainerStatsResponse:
        """Report the accounting of the containers that have not ended."""
        return cri.ListContainerStatsResponse(stats=await self._container_stats(request.filter))

    async def StreamContainerStats(
        self, request: cri.StreamContainerStatsRequest, context: Context
    ) -> AsyncIterator[cri.StreamContainerStatsResponse]:
        """ListContainerStats in pieces."""
        for piece in chunks(await self._container_stats(request.filter)):
            yield cri.StreamContainerStatsResponse(container_stats=piece)

    async def _container_stats(self, wanted: cri.ContainerStatsFilter) -> Iterator[cri.ContainerStats]:
        chosen = [item for item in self._parts.containers.list() if _matches_container(item, wanted)]
        return map(translate_stats.container_stats, await self._stats.containers(chosen))

    async def PodSandboxStats(self, request: cri.PodSandboxStatsRequest, context: Context) -> cri.PodSandboxStatsResponse:
        """Report one pod's accounting."""
        reading = await self._stats.sandbox(self._parts.sandboxes.get(request.pod_sandbox_id))
        return cri.PodSandboxStatsResponse(stats=translate_stats.sandbox_stats(reading))

    async def ListPodSandboxStats(
        self, request: cri.ListPodSandboxStatsRequest, context: Context
    ) -> cri.ListPodSandboxStatsResponse:
        """Report the accounting of the pods that are ready."""
        return cri.ListPodSandboxStatsResponse(stats=await self._pod_stats(request.filter))

    async def StreamPodSandboxStats(
        self, request: cri.StreamPodSandboxStatsRequest, context: Context
    ) -> AsyncIterator[cri.StreamPodSandboxStatsResponse]:
        """ListPodSandboxStats in pieces."""
        for piece in chunks(await self._pod_stats(request.filter)):
            yield cri.StreamPodSandboxStatsResponse(pod_sandbox_stats=piece)

    async def _pod_stats(self, wanted: cri.PodSandboxStatsFilter) -> Iterator[cri.PodSandboxStats]:
        chosen = [item for item in self._parts.sandboxes.list() if _matches_sandbox(item, wanted)]
        return map(translate_stats.sandbox_stats, await self._stats.sandboxes(chosen))


def _matches_container(container: Container, wanted: cri.ContainerStatsFilter) -> bool:
    return (
        container.id.startswith(wanted.id)
        and container.metadata.sandbox_id.startswith(wanted.pod_sandbox_id)
        and has_labels(container.metadata.config.labels, wanted.label_selector)
    )


def _matches_sandbox(sandbox: PodSandbox, wanted: cri.PodSandboxStatsFilter) -> bool:
    return (
        sandbox.status.ready
        and sandbox.id.startswith(wanted.id)
        and has_labels(sandbox.metadata.config.labels, wanted.label_selector)
    )
