"""Pods and containers in NRI's words."""

import json
from collections.abc import Mapping
from typing import Any

from crid.cri import nri_pb2 as nri
from crid.model.container import Container, ContainerState
from crid.model.sandbox import PodSandbox
from crid.nri.describe import describe
from crid.nri.resources import from_cri

STATES: dict[ContainerState, nri.ContainerState.ValueType] = {
    ContainerState.CREATED: nri.CONTAINER_CREATED,
    ContainerState.RUNNING: nri.CONTAINER_RUNNING,
    ContainerState.PAUSED: nri.CONTAINER_PAUSED,
    ContainerState.STOPPED: nri.CONTAINER_STOPPED,
    ContainerState.UNKNOWN: nri.CONTAINER_UNKNOWN,
}


def pod_message(sandbox: PodSandbox) -> nri.PodSandbox:
    """Return what plugins are told of a pod."""
    metadata, status = sandbox.metadata, sandbox.status
    config = metadata.config
    made = nri.PodSandbox(
        id=sandbox.id,
        name=config.metadata.name,
        uid=config.metadata.uid,
        namespace=config.metadata.namespace,
        labels=config.labels,
        annotations=config.annotations,
        runtime_handler=metadata.runtime_handler,
        pid=metadata.pause.pid if metadata.pause else 0,
        ips=metadata.network.ips,
    )
    linux = made.linux
    linux.cgroup_parent = metadata.cgroup_parent
    linux.pod_overhead.CopyFrom(from_cri(status.overhead or config.linux.overhead))
    linux.pod_resources.CopyFrom(from_cri(status.resources or config.linux.resources))
    for kind, path in (
        ("network", metadata.namespaces.net),
        ("ipc", metadata.namespaces.ipc),
        ("uts", metadata.namespaces.uts),
        ("user", metadata.namespaces.user),
    ):
        if path:
            linux.namespaces.add(type=kind, path=path)
    return made


def container_message(container: Container, spec: Mapping[str, Any] | None = None) -> nri.Container:
    """Return what plugins are told of a container; `spec` is what its bundle holds, unless there is a newer one."""
    metadata, status = container.metadata, container.status
    made = nri.Container(
        id=container.id,
        pod_sandbox_id=metadata.sandbox_id,
        name=metadata.config.metadata.name,
        state=STATES[status.state],
        labels=metadata.config.labels,
        annotations=metadata.config.annotations,
        pid=status.process.pid if status.process else 0,
        created_at=metadata.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        status_reason=status.reason,
        status_message=status.message,
    )
    made = describe(made, _spec_of(container) if spec is None else spec)
    if status.resources is not None:
        made.linux.resources.MergeFrom(from_cri(status.resources))
    return made


def _spec_of(container: Container) -> dict[str, Any]:
    """Return the spec in the container's bundle; a container that is gone, or going, has none."""
    try:
        spec: dict[str, Any] = json.loads((container.metadata.bundle / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return spec
