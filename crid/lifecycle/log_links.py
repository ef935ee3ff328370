"""Links to containers' logs by id, for pods that show their log directory in a volume (the annotation link-logs).

    <log directory>/<container id>.log -> <name>/<attempt>.log

as CRI-O makes them, for log collectors in the pod that know containers by their ids. They lead to where the container's
config says that its log is, relative, so that they are right on the host and wherever the volume is mounted. Each goes with
its container, that of a half-made one with the next start of the daemon.
"""

import re
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.errors import UnavailableError
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec import asked

_NAME = re.compile(r"[0-9a-f]{64}\.log")


def make(pod: SandboxMetadata, config: cri.ContainerConfig, identifier: str) -> None:
    """Make the link to a container's log, if it has one. Raises UnavailableError."""
    if not pod.config.log_directory or not config.log_path:
        return
    path = _path(pod, identifier)
    try:
        path.symlink_to(config.log_path)
    except OSError as error:
        raise UnavailableError(f"annotation {asked.LINK_LOGS}: {path} cannot be made: {error.strerror}") from error


def remove(pod: SandboxMetadata, identifier: str) -> None:
    """Remove a container's link. Idempotent; does nothing for pods that have none."""
    if _has_links(pod):
        _path(pod, identifier).unlink(missing_ok=True)


def remove_all(pod: SandboxMetadata) -> None:
    """Remove all links of a pod that may have some. Idempotent."""
    if not _has_links(pod):
        return
    for path in Path(pod.config.log_directory).glob("*.log"):
        if _NAME.fullmatch(path.name) and path.is_symlink():
            path.unlink(missing_ok=True)


def _has_links(pod: SandboxMetadata) -> bool:
    """Whether the pod asks for them; whether it may does not matter to what is to be removed."""
    names = (asked.LINK_LOGS, asked.OLDER[asked.LINK_LOGS])
    return bool(pod.config.log_directory) and any(name.startswith(names) for name in pod.config.annotations)


def _path(pod: SandboxMetadata, identifier: str) -> Path:
    return Path(pod.config.log_directory, f"{identifier}.log")
