"""What a container sees in its file system beside its image: kernel file systems, the pod's files, the client's mounts.

Order matters, since a later mount hides what lies below its target: mounts are sorted by the depth of their target, and
those of equal depth keep their order, the client's last. A client's mount replaces the default one at the same target.
Where the client mounts something over /dev, /sys or /proc as a whole, the kernel file systems below are left out: the
client wants to see its own.

Privileged containers get /sys and /sys/fs/cgroup writable. Options are those of the OCI runtime-spec; `rprivate` keeps
the container's later mounts from the host.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnimplementedError
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec.inputs import Host

OciMount = dict[str, Any]

EXTRA_OPTIONS = ("noexec", "nodev", "nosuid")
"""What Mount.mount_options may add (KEP-5855)."""

_WHOLE_TREES = ("/dev", "/sys", "/proc")
_PROPAGATION = {
    cri.MountPropagation.PROPAGATION_PRIVATE: "rprivate",
    cri.MountPropagation.PROPAGATION_HOST_TO_CONTAINER: "rslave",
    cri.MountPropagation.PROPAGATION_BIDIRECTIONAL: "rshared",
}


def build(config: cri.ContainerConfig, sandbox: SandboxMetadata, sources: Mapping[str, str], host: Host) -> list[OciMount]:
    """Return the OCI spec's `mounts`. Raises an error naming the mount of the config that cannot be made."""
    security = config.linux.security_context
    asked = [_client_mount(mount, f"mounts[{index}]", sources, host) for index, mount in enumerate(config.mounts)]
    targets = {mount["destination"] for mount in asked}
    defaults = [*_kernel_mounts(security.privileged), *_pod_mounts(sandbox, security.readonly_rootfs)]
    kept = [mount for mount in defaults if not _replaced(mount["destination"], targets)]
    return sorted(kept + asked, key=lambda mount: mount["destination"].count("/"))


def root_propagation(mounts: list[OciMount]) -> str:
    """Return the OCI spec's `linux.rootfsPropagation` that these mounts need, "" for the runtime's default (private).

    The runtime makes the root's propagation first; a mount below a private root would get and send no events.
    """
    options = {option for mount in mounts for option in mount["options"]}
    return "rshared" if "rshared" in options else "rslave" if "rslave" in options else ""


def _kernel_mounts(privileged: bool) -> list[OciMount]:
    """Return the file systems that the kernel serves; every program expects them."""
    access = "rw" if privileged else "ro"
    safe = ["nosuid", "noexec", "nodev"]
    return [
        _mount("/proc", "proc", safe),
        _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        # gid 5 is tty's number in every distribution; grantpt(3) wants terminals to belong to that group.
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("/dev/mqueue", "mqueue", safe),
        _mount("/sys", "sysfs", [*safe, access]),
        _mount("/sys/fs/cgroup", "cgroup", [*safe, "relatime", access]),
    ]


def _pod_mounts(sandbox: SandboxMetadata, readonly: bool) -> list[OciMount]:
    """Return the files that the pod's containers share; read-only where the root file system is."""
    shm = str(sandbox.shm_path) if sandbox.namespaces.ipc else "/dev/shm"
    options = ["rbind", "rprivate", "nosuid", "nodev", "noexec"]
    files = {
        "/etc/resolv.conf": sandbox.resolv_conf,
        "/etc/hostname": sandbox.hostname_file,
        "/etc/hosts": sandbox.hosts_file,
    }
    access = "ro" if readonly else "rw"
    return [
        _mount("/dev/shm", "bind", [*options, "rw"], shm),
        *(_mount(target, "bind", [*options, access], str(source)) for target, source in files.items()),
    ]


def _client_mount(mount: cri.Mount, field: str, sources: Mapping[str, str], host: Host) -> OciMount:
    """Return the bind mount for one mount of the config, named `field` in errors."""
    if mount.HasField("image"):
        raise UnimplementedError(f"{field}.image: image volumes are not supported yet")
    target = _target(mount.container_path, f"{field}.container_path")
    if not mount.host_path.startswith("/"):
        raise InvalidArgumentError(f"{field}.host_path: {mount.host_path[:128]!r} is not an absolute path")
    if mount.host_path not in sources:
        raise NotFoundError(f"{field}.host_path: {mount.host_path!r} does not exist")
    if mount.propagation not in _PROPAGATION:
        raise InvalidArgumentError(f"{field}.propagation: unknown mode {mount.propagation}")
    options = ["rbind", _PROPAGATION[mount.propagation], _access(mount, field, host)]
    for option in mount.mount_options:
        if option not in EXTRA_OPTIONS:
            raise InvalidArgumentError(f"{field}.mount_options: {option[:64]!r} is none of {', '.join(EXTRA_OPTIONS)}")
        options.append(option)
    built = _mount(target, "bind", options, sources[mount.host_path])
    if mount.uidMappings or mount.gidMappings:
        if not host.idmapped_mounts:
            raise FailedPreconditionError(f"{field}.uidMappings: this host or runtime has no idmapped mounts")
        built["uidMappings"] = [_mapping(item) for item in mount.uidMappings]
        built["gidMappings"] = [_mapping(item) for item in mount.gidMappings]
    return built


def _access(mount: cri.Mount, field: str, host: Host) -> str:
    """Return `rw`, `ro` or `rro`. Recursive read-only is all or an error, never silently less (CRI, Mount)."""
    if not mount.recursive_read_only:
        return "ro" if mount.readonly else "rw"
    if not mount.readonly:
        raise InvalidArgumentError(f"{field}.recursive_read_only: wants readonly")
    if mount.propagation != cri.MountPropagation.PROPAGATION_PRIVATE:
        raise InvalidArgumentError(f"{field}.recursive_read_only: wants PROPAGATION_PRIVATE")
    if not host.recursive_read_only:
        raise FailedPreconditionError(f"{field}.recursive_read_only: this host or runtime cannot do it")
    return "rro"


def _target(path: str, field: str) -> str:
    """Return the cleaned absolute path of a mount's target."""
    if not path.startswith("/"):
        raise InvalidArgumentError(f"{field}: {path[:128]!r} is not an absolute path")
    target = "/" + posixpath.normpath(path).lstrip("/")
    if target == "/":
        raise InvalidArgumentError(f"{field}: the root file system itself cannot be a mount's target")
    return target


def _replaced(target: str, asked: set[str]) -> bool:
    """Whether the client's mounts stand in for the default mount at `target`."""
    return target in asked or any(tree in asked and target.startswith(f"{tree}/") for tree in _WHOLE_TREES)


def _mapping(mapping: cri.IDMapping) -> dict[str, int]:
    """Return an OCI spec's ID mapping."""
    return {"containerID": mapping.container_id, "hostID": mapping.host_id, "size": mapping.length}


def _mount(destination: str, kind: str, options: list[str], source: str = "") -> OciMount:
    """Return an OCI spec's mount; kernel file systems name themselves as source, as mount(8) users do."""
    return {"destination": destination, "type": kind, "source": source or kind, "options": options}
