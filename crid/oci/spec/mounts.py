"""What a container sees in its file system beside its image: kernel file systems, the pod's files, the client's mounts.

Order matters, since a later mount hides what lies below its target: mounts are sorted by the depth of their target, and
those of equal depth keep their order, the client's last. A client's mount replaces the default one at the same target.
Where the client mounts something over /dev, /sys or /proc as a whole, the kernel file systems below are left out: the
client wants to see its own.

Privileged containers get /sys and /sys/fs/cgroup writable. Options are those of the OCI runtime-spec; `rprivate` keeps
the container's later mounts from the host.
"""

from typing import Any

from crid.model.idmap import IdMap
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec import client_mounts
from crid.oci.spec.inputs import SpecInputs

OciMount = dict[str, Any]

TTY_GROUP = 5
SAFE = ["nosuid", "noexec", "nodev"]
IN_MEMORY = {"/run": "0755", "/tmp": "1777", "/var/tmp": "1777"}
"""What is writable where every root file system is read-only, with modes."""
_WHOLE_TREES = ("/dev", "/sys", "/proc")


def build(inputs: SpecInputs, idmap: IdMap | None) -> list[OciMount]:
    """Return the OCI spec's `mounts`. Raises an error naming the mount of the config that cannot be made."""
    security, sandbox = inputs.config.linux.security_context, inputs.sandbox
    client_mounts.check(inputs.config, inputs.host, idmap)
    asked = client_mounts.build(inputs)
    targets = {mount["destination"] for mount in asked}
    kernel = _kernel_mounts(security.privileged, idmap, own_network=bool(sandbox.namespaces.net))
    if inputs.asked.cgroup_writable and inputs.host.resources.cgroup_v2:
        kernel[-1] = _mount("/sys/fs/cgroup", "cgroup", [*SAFE, "relatime", "rw"])
    readonly = security.readonly_rootfs or inputs.host.policy.read_only
    defaults = [*kernel, *_pod_mounts(sandbox, readonly), *_node_mounts(inputs, targets)]
    kept = [mount for mount in defaults if not _replaced(mount["destination"], targets)]
    return sorted(kept + asked, key=lambda mount: mount["destination"].count("/"))


def root_propagation(mounts: list[OciMount]) -> str:
    """Return the OCI spec's `linux.rootfsPropagation` that these mounts need, "" for the runtime's default (private).

    The runtime makes the root's propagation first; a mount below a private root would get and send no events.
    """
    options = {option for mount in mounts for option in mount["options"]}
    return "rshared" if "rshared" in options else "rslave" if "rslave" in options else ""


def _kernel_mounts(privileged: bool, idmap: IdMap | None, *, own_network: bool) -> list[OciMount]:
    """Return the file systems that the kernel serves; every program expects them.

    A sysfs shows one network namespace, and only who owns that may mount it (sysfs(5)): a user namespace with the host's
    network gets the host's.
    """
    access = "rw" if privileged else "ro"
    # gid 5 is tty's number in every distribution; grantpt(3) wants terminals to belong to that group.
    tty = [f"gid={TTY_GROUP}"] if idmap is None or idmap.groups.to_host(TTY_GROUP) is not None else []
    sys = _mount("/sys", "sysfs", [*SAFE, access])
    if idmap is not None and not own_network:
        sys = _mount("/sys", "bind", ["rbind", "rprivate", *SAFE, access], "/sys")
    return [
        _mount("/proc", "proc", SAFE),
        _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *tty]),
        _mount("/dev/mqueue", "mqueue", SAFE),
        sys,
        _mount("/sys/fs/cgroup", "cgroup", [*SAFE, "relatime", access]),
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


def _node_mounts(inputs: SpecInputs, asked: set[str]) -> list[OciMount]:
    """Return what the configuration and the machine give to every container; `asked` has the targets of the client's.

    Nothing is given below those: what it is mounted on would be made there, in a directory that may be the host's own.
    """
    host, found = inputs.host, []
    if host.policy.read_only:
        # tmpcopyup is an extension of both crun and runc: what the image has there is copied into the tmpfs.
        options = ["rw", *SAFE, "tmpcopyup"]
        found += [_mount(target, "tmpfs", [*options, f"mode={mode}"]) for target, mode in IN_MEMORY.items()]
    for target, source in inputs.given_mounts.items():
        found.append(_mount(target, "bind", ["rbind", "rprivate", "rw"], source))
    if host.policy.localtime:
        found.append(_mount("/etc/localtime", "bind", ["bind", "rprivate", *SAFE, "ro"], host.policy.localtime))
    if host.container_env:
        found.append(_mount("/run/.containerenv", "bind", ["bind", "rprivate", *SAFE, "ro"], host.container_env))
    if host.no_fips and inputs.asked.disable_fips:
        found.append(_mount("/proc/sys/crypto/fips_enabled", "bind", ["bind", "rprivate", *SAFE, "ro"], host.no_fips))
    return [mount for mount in found if not any(mount["destination"].startswith(f"{target}/") for target in asked)]


def _replaced(target: str, asked: set[str]) -> bool:
    """Whether the client's mounts stand in for the default mount at `target`."""
    return target in asked or any(tree in asked and target.startswith(f"{tree}/") for tree in _WHOLE_TREES)


def _mount(destination: str, kind: str, options: list[str], source: str = "") -> OciMount:
    """Return an OCI spec's mount; kernel file systems name themselves as source, as mount(8) users do."""
    return {"destination": destination, "type": kind, "source": source or kind, "options": options}
