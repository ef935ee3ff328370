"""Pods and containers as CRI messages."""

import json

from google.protobuf.message import Message

from crid.cri import api_pb2 as cri
from crid.model.container import Container, ContainerMetadata, ContainerState
from crid.model.sandbox import PodSandbox, SandboxMetadata
from crid.oci.spec import signals

CONTAINER_STATES = {
    ContainerState.CREATED: cri.CONTAINER_CREATED,
    ContainerState.RUNNING: cri.CONTAINER_RUNNING,
    ContainerState.PAUSED: cri.CONTAINER_RUNNING,
    ContainerState.STOPPED: cri.CONTAINER_EXITED,
    ContainerState.UNKNOWN: cri.CONTAINER_UNKNOWN,
}


def sandbox_state(sandbox: PodSandbox) -> cri.PodSandboxState.ValueType:
    """Return READY until the pod is stopped."""
    return cri.SANDBOX_READY if sandbox.status.ready else cri.SANDBOX_NOTREADY


def sandbox_item(sandbox: PodSandbox) -> cri.PodSandbox:
    """Return the pod as lists show it."""
    config = sandbox.metadata.config
    return cri.PodSandbox(
        id=sandbox.id,
        metadata=config.metadata,
        state=sandbox_state(sandbox),
        created_at=sandbox.created_at,
        labels=config.labels,
        annotations=config.annotations,
        runtime_handler=sandbox.metadata.runtime_handler,
    )


def sandbox_status(sandbox: PodSandbox) -> cri.PodSandboxStatus:
    """Return the pod's status. A stopped pod has no addresses any more."""
    metadata = sandbox.metadata
    ips = metadata.network.ips if sandbox.status.ready else ()
    return cri.PodSandboxStatus(
        id=sandbox.id,
        metadata=metadata.config.metadata,
        state=sandbox_state(sandbox),
        created_at=sandbox.created_at,
        network=cri.PodSandboxNetworkStatus(
            ip=ips[0] if ips else "", additional_ips=[cri.PodIP(ip=address) for address in ips[1:]]
        ),
        linux=cri.LinuxPodSandboxStatus(namespaces=cri.Namespace(options=_namespace_options(metadata))),
        labels=metadata.config.labels,
        annotations=metadata.config.annotations,
        runtime_handler=metadata.runtime_handler,
    )


def _namespace_options(metadata: SandboxMetadata) -> cri.NamespaceOption:
    """Return what the pod was asked to have, with the map of its user namespace, whoever chose that."""
    asked = metadata.config.linux.security_context.namespace_options
    if metadata.idmap is None:
        return asked
    options = cri.NamespaceOption()
    options.CopyFrom(asked)
    options.userns_options.CopyFrom(metadata.idmap.to_cri())
    return options


def container_item(container: Container) -> cri.Container:
    """Return the container as lists show it."""
    metadata = container.metadata
    return cri.Container(
        id=container.id,
        pod_sandbox_id=metadata.sandbox_id,
        metadata=metadata.config.metadata,
        image=shown_image(metadata),
        image_ref=metadata.image_ref,
        image_id=metadata.image_id,
        state=CONTAINER_STATES[container.status.state],
        created_at=container.created_at,
        labels=metadata.config.labels,
        annotations=metadata.config.annotations,
    )


def shown_image(metadata: ContainerMetadata) -> cri.ImageSpec:
    """Return the image as people know it: the kubelet asks for an id, and shows what it is told here as the pod's image."""
    shown = cri.ImageSpec()
    shown.CopyFrom(metadata.config.image)
    if metadata.image_id.removeprefix("sha256:").startswith(shown.image.removeprefix("sha256:")):
        shown.image = shown.user_specified_image or shown.image
    return shown


def container_status(container: Container) -> cri.ContainerStatus:
    """Return the container's status, of one moment."""
    metadata, status = container.metadata, container.status
    config = metadata.config
    message = cri.ContainerStatus(
        id=container.id,
        metadata=config.metadata,
        state=CONTAINER_STATES[status.state],
        created_at=container.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code if status.finished_at else 0,
        image=shown_image(metadata),
        image_ref=metadata.image_ref,
        image_id=metadata.image_id,
        reason=reason(container),
        message=status.message,
        labels=config.labels,
        annotations=config.annotations,
        mounts=metadata.mounts,
        log_path=metadata.log_path,
        user=metadata.user,
        stop_signal=signals.to_cri(metadata.stop_signal),
    )
    resources = status.resources or (config.linux.resources if config.linux.HasField("resources") else None)
    if resources is not None:
        message.resources.linux.CopyFrom(resources)
    return message


def reason(container: Container) -> str:
    """Return why the container ended, in the words that the kubelet knows; empty while it has not."""
    status = container.status
    if not status.finished_at:
        return ""
    if status.reason:
        return status.reason
    if status.oom_killed:
        return "OOMKilled"
    return "Completed" if status.exit_code == 0 else "Error"


def verbose(facts: dict[str, object]) -> dict[str, str]:
    """Return the `info` map of a verbose status: one key, `info`, holding JSON, as CRI-O and containerd give it."""
    return {"info": json.dumps(facts, separators=(",", ":"), default=_json)}


def _json(value: object) -> object:
    return str(value) if not isinstance(value, Message) else value.SerializeToString().hex()
