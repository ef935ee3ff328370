"""What a request must hold before anything is done with it; the refusals name the field."""

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.oci.spec import sysctls, userns
from crid.oci.spec.inputs import Host


def require_metadata(config: cri.PodSandboxConfig) -> None:
    """Refuse a pod without the names that make its reserved name unique. Raises InvalidArgumentError."""
    if not config.HasField("metadata"):
        raise InvalidArgumentError("PodSandboxConfig.metadata is missing")
    for field in ("name", "namespace", "uid"):
        value = getattr(config.metadata, field)
        if not value and field != "uid":
            raise InvalidArgumentError(f"PodSandboxConfig.metadata.{field} is empty")
        if "/" in value or "\0" in value:
            raise InvalidArgumentError(f"PodSandboxConfig.metadata.{field} {value!r} holds a slash or a NUL")


def require_namespaces(config: cri.PodSandboxConfig, host: Host) -> None:
    """Refuse namespaces that contradict each other or that the handler cannot give, and sysctls of the host.

    Raises InvalidArgumentError, FailedPreconditionError.
    """
    options = config.linux.security_context.namespace_options
    for kind, mode in (("network", options.network), ("ipc", options.ipc)):
        if mode not in (cri.POD, cri.NODE):
            raise InvalidArgumentError(f"security_context.namespace_options.{kind}: must be POD or NODE")
    if options.pid not in (cri.POD, cri.CONTAINER, cri.NODE):
        raise InvalidArgumentError("security_context.namespace_options.pid: must be POD, CONTAINER or NODE for a pod")
    if userns.wanted(options) is not None and not host.user_namespaces:
        raise FailedPreconditionError(f"{userns.FIELD}: this host or runtime has no user namespaces for pods")
    sysctls.check(config.linux.sysctls, options)


def require_container(config: cri.ContainerConfig) -> None:
    """Refuse a container without a name or an image. Raises InvalidArgumentError."""
    if not config.HasField("metadata"):
        raise InvalidArgumentError("ContainerConfig.metadata is missing")
    name = config.metadata.name
    if not name:
        raise InvalidArgumentError("ContainerConfig.metadata.name is empty")
    if "/" in name or "\0" in name:
        raise InvalidArgumentError(f"ContainerConfig.metadata.name {name!r} holds a slash or a NUL")
    if not config.image.image:
        raise InvalidArgumentError(f"container {name}: ContainerConfig.image.image is empty")
    if config.log_path and (config.log_path.startswith("/") or ".." in config.log_path.split("/")):
        raise InvalidArgumentError(
            f"container {name}: ContainerConfig.log_path {config.log_path!r} must be below the pod's log directory"
        )


def require_command(command: list[str]) -> None:
    """Refuse an exec of nothing. Raises InvalidArgumentError."""
    if not command:
        raise InvalidArgumentError("cmd is empty")
    if any("\0" in word for word in command):
        raise InvalidArgumentError("cmd holds a NUL")
