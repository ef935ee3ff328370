"""The RPCs of pods."""

import time
from collections.abc import AsyncIterator, Iterator

from google.protobuf.json_format import MessageToDict

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.lifecycle.parts import Parts
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.model.sandbox import PodSandbox
from crid.server import translate_pods
from crid.server.chunks import chunks
from crid.server.filters import has_labels
from crid.server.typing import Context


class SandboxRpcs:
    """Run, Stop, Remove, Status, List, Stream and Update of pods."""

    _parts: Parts
    _sandboxes: SandboxLifecycle

    async def RunPodSandbox(self, request: cri.RunPodSandboxRequest, context: Context) -> cri.RunPodSandboxResponse:
        """Create a pod, ready for containers."""
        if not request.HasField("config"):
            raise InvalidArgumentError("RunPodSandboxRequest.config is missing")
        sandbox = await self._sandboxes.run(request.config, request.runtime_handler)
        return cri.RunPodSandboxResponse(pod_sandbox_id=sandbox.id)

    async def StopPodSandbox(self, request: cri.StopPodSandboxRequest, context: Context) -> cri.StopPodSandboxResponse:
        """End a pod's containers and release its network. Idempotent."""
        await self._sandboxes.stop(request.pod_sandbox_id)
        return cri.StopPodSandboxResponse()

    async def RemovePodSandbox(self, request: cri.RemovePodSandboxRequest, context: Context) -> cri.RemovePodSandboxResponse:
        """Remove a pod with everything in it. Idempotent."""
        await self._sandboxes.remove(request.pod_sandbox_id)
        return cri.RemovePodSandboxResponse()

    async def PodSandboxStatus(self, request: cri.PodSandboxStatusRequest, context: Context) -> cri.PodSandboxStatusResponse:
        """Report one pod and, as the evented PLEG wants it, its containers."""
        sandbox = self._parts.sandboxes.get(request.pod_sandbox_id)
        info = {}
        if request.verbose:
            metadata = sandbox.metadata
            facts: dict[str, object] = {
                "cgroupParent": metadata.cgroup_parent,
                "namespaces": {
                    "network": metadata.namespaces.net,
                    "ipc": metadata.namespaces.ipc,
                    "uts": metadata.namespaces.uts,
                },
                "pid": metadata.pause.pid if metadata.pause else 0,
                "runDirectory": metadata.run_directory,
                "resources": _limits(sandbox.status.resources or metadata.config.linux.resources),
                "overhead": _limits(sandbox.status.overhead or metadata.config.linux.overhead),
            }
            info = translate_pods.verbose(facts)
        inside = [item for item in self._parts.containers.list() if item.metadata.sandbox_id == sandbox.id]
        return cri.PodSandboxStatusResponse(
            status=translate_pods.sandbox_status(sandbox),
            info=info,
            containers_statuses=map(translate_pods.container_status, inside),
            timestamp=time.time_ns(),
        )

    async def UpdatePodSandboxResources(
        self, request: cri.UpdatePodSandboxResourcesRequest, context: Context
    ) -> cri.UpdatePodSandboxResourcesResponse:
        """Take note of a pod's new limits, all or none; the cgroup is changed if it is crid's own."""
        await self._sandboxes.update_resources(request.pod_sandbox_id, request.overhead, request.resources)
        return cri.UpdatePodSandboxResourcesResponse()

    async def ListPodSandbox(self, request: cri.ListPodSandboxRequest, context: Context) -> cri.ListPodSandboxResponse:
        """List pods, oldest first; the filter's conditions must all hold."""
        return cri.ListPodSandboxResponse(items=self._listed_pods(request.filter))

    async def StreamPodSandboxes(
        self, request: cri.StreamPodSandboxesRequest, context: Context
    ) -> AsyncIterator[cri.StreamPodSandboxesResponse]:
        """ListPodSandbox in pieces."""
        for piece in chunks(self._listed_pods(request.filter)):
            yield cri.StreamPodSandboxesResponse(pod_sandboxes=piece)

    def _listed_pods(self, wanted: cri.PodSandboxFilter) -> Iterator[cri.PodSandbox]:
        chosen = [item for item in self._parts.sandboxes.list() if _matches(item, wanted)]
        return map(translate_pods.sandbox_item, chosen)


def _limits(resources_: cri.LinuxContainerResources) -> dict[str, object]:
    return MessageToDict(resources_, preserving_proto_field_name=True)


def _matches(sandbox: PodSandbox, wanted: cri.PodSandboxFilter) -> bool:
    return (
        sandbox.id.startswith(wanted.id)
        and (not wanted.HasField("state") or translate_pods.sandbox_state(sandbox) == wanted.state.state)
        and has_labels(sandbox.metadata.config.labels, wanted.label_selector)
    )
