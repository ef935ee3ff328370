"""The RPCs of containers."""

import json
from collections.abc import AsyncIterator, Iterator

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.exec import ExecLifecycle
from crid.lifecycle.parts import Parts
from crid.model.container import Container
from crid.server import translate_pods
from crid.server.chunks import chunks
from crid.server.filters import has_labels
from crid.server.typing import Context


class ContainerRpcs:
    """Create, Start, Stop, Remove, List, Stream, Status and Update of containers, ReopenContainerLog, ExecSync."""

    _parts: Parts
    _containers: ContainerLifecycle
    _execs: ExecLifecycle

    async def CreateContainer(self, request: cri.CreateContainerRequest, context: Context) -> cri.CreateContainerResponse:
        """Create a container in a ready pod."""
        if not request.HasField("config"):
            raise InvalidArgumentError("CreateContainerRequest.config is missing")
        container = await self._containers.create(request.pod_sandbox_id, request.config)
        return cri.CreateContainerResponse(container_id=container.id)

    async def StartContainer(self, request: cri.StartContainerRequest, context: Context) -> cri.StartContainerResponse:
        """Run a created container's program."""
        await self._containers.start(request.container_id)
        return cri.StartContainerResponse()

    async def StopContainer(self, request: cri.StopContainerRequest, context: Context) -> cri.StopContainerResponse:
        """Stop a container within a grace period. Idempotent."""
        await self._containers.stop(request.container_id, max(request.timeout, 0))
        return cri.StopContainerResponse()

    async def RemoveContainer(self, request: cri.RemoveContainerRequest, context: Context) -> cri.RemoveContainerResponse:
        """Remove a container, by force if it runs. Idempotent."""
        await self._containers.remove(request.container_id)
        return cri.RemoveContainerResponse()

    async def ListContainers(self, request: cri.ListContainersRequest, context: Context) -> cri.ListContainersResponse:
        """List containers, oldest first; the filter's conditions must all hold."""
        return cri.ListContainersResponse(containers=self._listed_containers(request.filter))

    async def StreamContainers(
        self, request: cri.StreamContainersRequest, context: Context
    ) -> AsyncIterator[cri.StreamContainersResponse]:
        """ListContainers in pieces."""
        for piece in chunks(self._listed_containers(request.filter)):
            yield cri.StreamContainersResponse(containers=piece)

    def _listed_containers(self, wanted: cri.ContainerFilter) -> Iterator[cri.Container]:
        chosen = [item for item in self._parts.containers.list() if _matches(item, wanted)]
        return map(translate_pods.container_item, chosen)

    async def ContainerStatus(self, request: cri.ContainerStatusRequest, context: Context) -> cri.ContainerStatusResponse:
        """Report one container."""
        container = self._parts.containers.get(request.container_id)
        info = translate_pods.verbose(_facts(container)) if request.verbose else {}
        return cri.ContainerStatusResponse(status=translate_pods.container_status(container), info=info)

    async def UpdateContainerResources(
        self, request: cri.UpdateContainerResourcesRequest, context: Context
    ) -> cri.UpdateContainerResourcesResponse:
        """Change a container's limits: all of them or none."""
        if not request.HasField("linux"):
            raise InvalidArgumentError("UpdateContainerResourcesRequest.linux is missing")
        await self._containers.update_resources(request.container_id, request.linux)
        return cri.UpdateContainerResourcesResponse()

    async def ReopenContainerLog(
        self, request: cri.ReopenContainerLogRequest, context: Context
    ) -> cri.ReopenContainerLogResponse:
        """Write on to a new log file, after the kubelet has renamed the old one."""
        await self._containers.reopen_log(request.container_id)
        return cri.ReopenContainerLogResponse()

    async def ExecSync(self, request: cri.ExecSyncRequest, context: Context) -> cri.ExecSyncResponse:
        """Run a command in a container and return its output."""
        result = await self._execs.exec_sync(request.container_id, list(request.cmd), request.timeout)
        return cri.ExecSyncResponse(stdout=result.stdout, stderr=result.stderr, exit_code=result.exit_code)


def _facts(container: Container) -> dict[str, object]:
    """Return what a verbose status adds, under the keys that crictl's users know."""
    metadata, status = container.metadata, container.status
    try:
        spec = json.loads((metadata.bundle / "config.json").read_bytes())
    except (OSError, ValueError):
        spec = None  # gone after a reboot
    return {
        "sandboxID": metadata.sandbox_id,
        "pid": status.process.pid if status.process and not status.finished_at else 0,
        "monitorPid": status.monitor.pid if status.monitor and not status.finished_at else 0,
        "runtimeSpec": spec,
        "privileged": metadata.config.linux.security_context.privileged,
        "bundle": str(metadata.bundle),
        "paused": status.paused,
    }


def _matches(container: Container, wanted: cri.ContainerFilter) -> bool:
    metadata = container.metadata
    return (
        container.id.startswith(wanted.id)
        and metadata.sandbox_id.startswith(wanted.pod_sandbox_id)
        and (not wanted.HasField("state") or translate_pods.CONTAINER_STATES[container.status.state] == wanted.state.state)
        and has_labels(metadata.config.labels, wanted.label_selector)
    )
