"""What a request must hold before anything is done with it; the refusals name the field."""

from collections.abc import Mapping

from google.protobuf.message import Message

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.linux import cpu
from crid.model import cpus
from crid.model.resources import check_pod_resources, cpuset, linux_resources
from crid.net import dns
from crid.oci.spec import absolute, asked, selinux, sysctls, userns_request
from crid.oci.spec.inputs import Host


def require_metadata(config: cri.PodSandboxConfig) -> None:
    """Refuse a pod without the names that make its reserved name unique. Raises InvalidArgumentError."""
    if not config.HasField("metadata"):
        raise InvalidArgumentError("PodSandboxConfig.metadata is missing")
    for field in ("name", "namespace", "uid"):
        value = getattr(config.metadata, field)
        if not value and field != "uid":
            raise InvalidArgumentError(f"PodSandboxConfig.metadata.{field} is empty")
        if "/" in value:
            raise InvalidArgumentError(f"PodSandboxConfig.metadata.{field} {value!r} holds a slash")


def require_pod(config: cri.PodSandboxConfig, host: Host, hostname: str) -> None:
    """Refuse a pod whose options contradict each other, the machine or its handler; `hostname` is the machine's.

    Raises InvalidArgumentError, FailedPreconditionError.
    """
    refuse_nul(config, "PodSandboxConfig")
    require_metadata(config)
    _require_namespaces(config, host)
    if config.hostname:
        dns.check_hostname(config.hostname)
        host_network = config.linux.security_context.namespace_options.network == cri.NODE
        if host_network and config.hostname != hostname:
            raise InvalidArgumentError(f"hostname: {config.hostname!r}: a pod in the host's network has the host's name")
    dns.resolv_conf(config.dns_config, "")
    if config.log_directory and not config.log_directory.startswith("/"):
        raise InvalidArgumentError(f"log_directory: {config.log_directory[:128]!r} is not an absolute path")
    asked.shm_size(host.policy, config.annotations)
    _require_cgroup_files(asked.cgroup_files(host.policy, config.annotations), host)
    require_pod_limits(config.linux.overhead, config.linux.resources)
    selinux.check(config.linux.security_context.selinux_options)


def require_pod_limits(overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources) -> None:
    """Refuse a pod's limits that no kernel takes, or this machine does not. Raises InvalidArgumentError naming the field."""
    check_pod_resources(overhead, resources)
    require_cpuset(overhead, "overhead: ")
    require_cpuset(resources, "resources: ")


def require_cpuset(resources: cri.LinuxContainerResources, prefix: str = "") -> None:
    """Refuse CPUs and memory nodes that are not there now; cgroup v2 would leave them out without a word.

    Raises InvalidArgumentError naming the field, after `prefix`.
    """
    for field, what, present in (("cpuset_cpus", "CPU", cpu.online), ("cpuset_mems", "memory node", cpu.memory_nodes)):
        if (asked := cpuset(field, resources)) and (absent := asked - present()):
            numbers = cpus.to_list(absent)[:128]
            raise InvalidArgumentError(f"{prefix}resources.{field}: there is no {what} {numbers} on this machine, or it is off")


def _require_cgroup_files(files: Mapping[str, str], host: Host) -> None:
    try:
        linux_resources(cri.LinuxContainerResources(unified=files), host.resources)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"annotation {asked.UNIFIED}: {error}") from error


def refuse_nul(message: Message, name: str) -> None:
    """Refuse a NUL in any text of `message`: C strings end there, so somebody below would take the text for another.

    Raises InvalidArgumentError naming the field.
    """
    if b"\0" in message.SerializeToString() and (field := _field_with_nul(message)):
        raise InvalidArgumentError(f"{name}.{field}: contains a NUL")


def _field_with_nul(message: Message) -> str:
    for field, value in message.ListFields():
        values: list[object] = [value]
        if field.is_repeated:
            values = [*value, *value.values()] if hasattr(value, "items") else list(value)
        for each in values:
            if isinstance(each, Message):
                if below := _field_with_nul(each):
                    return f"{field.name}.{below}"
            elif (isinstance(each, str) and "\0" in each) or (isinstance(each, bytes) and b"\0" in each):
                return str(field.name)
    return ""


def _require_namespaces(config: cri.PodSandboxConfig, host: Host) -> None:
    options = config.linux.security_context.namespace_options
    for kind, mode in (("network", options.network), ("ipc", options.ipc)):
        if mode not in (cri.POD, cri.NODE):
            raise InvalidArgumentError(f"security_context.namespace_options.{kind}: must be POD or NODE")
    if options.pid not in (cri.POD, cri.CONTAINER, cri.NODE):
        raise InvalidArgumentError("security_context.namespace_options.pid: must be POD, CONTAINER or NODE for a pod")
    asked_for = userns_request.requested(config, host.policy)
    if asked_for is not None and not host.user_namespaces:
        raise FailedPreconditionError(f"{asked_for.source}: this host or runtime has no user namespaces for pods")
    sysctls.check(config.linux.sysctls, options)


def require_container(config: cri.ContainerConfig) -> None:
    """Refuse a container without a name or an image. Raises InvalidArgumentError naming the field."""
    refuse_nul(config, "ContainerConfig")
    if not config.HasField("metadata"):
        raise InvalidArgumentError("ContainerConfig.metadata is missing")
    name = config.metadata.name
    if not name:
        raise InvalidArgumentError("ContainerConfig.metadata.name is empty")
    if "/" in name:
        raise InvalidArgumentError(f"ContainerConfig.metadata.name {name!r} holds a slash")
    if not config.image.image:
        raise InvalidArgumentError(f"container {name}: ContainerConfig.image.image is empty")
    if config.log_path and (config.log_path.startswith("/") or ".." in config.log_path.split("/")):
        raise InvalidArgumentError(
            f"container {name}: ContainerConfig.log_path {config.log_path!r} must be below the pod's log directory"
        )
    if config.log_path:
        absolute.require(f"/{config.log_path}", f"container {name}: ContainerConfig.log_path")
        if not config.log_path.rpartition("/")[2].strip("."):
            raise InvalidArgumentError(f"container {name}: ContainerConfig.log_path {config.log_path!r} must name a file")


def require_command(command: list[str]) -> None:
    """Refuse an exec of nothing. Raises InvalidArgumentError."""
    if not command:
        raise InvalidArgumentError("cmd is empty")
    if any("\0" in word for word in command):
        raise InvalidArgumentError("cmd holds a NUL")
