"""A pod sandbox: the namespaces, the network and the directories that a pod's containers share.

There is no pause process unless the pod shares a PID namespace: the namespaces are kept alive by bind mounts, and the
sandbox is READY from its creation to its stop.
"""

from dataclasses import dataclass
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.model.idmap import IdMap
from crid.model.process import ProcessIdentity
from crid.model.tracked import Tracked


@dataclass(frozen=True, slots=True)
class NamespacePaths:
    """Where the pod's own namespaces are pinned; an empty path means the host's namespace is used."""

    net: str = ""
    ipc: str = ""
    uts: str = ""
    user: str = ""
    """Owns the other ones, where the pod has a user namespace."""


@dataclass(frozen=True, slots=True)
class NetworkAttachment:
    """What the network gave to a pod. Addresses are without prefix length, the primary one first."""

    ips: tuple[str, ...] = ()
    interface: str = ""


@dataclass(frozen=True, slots=True)
class SandboxMetadata:
    """What is fixed when RunPodSandbox succeeds. Paths are absolute; times are nanoseconds since the epoch."""

    id: str
    name: str
    """The reserved name `k8s_POD_<pod>_<namespace>_<uid>_<attempt>`."""
    config: cri.PodSandboxConfig
    """As received; nobody changes it."""
    runtime_handler: str
    """As asked for, so possibly empty; reported back unchanged."""
    created_at: int
    directory: Path
    """Survives a reboot: the record, resolv.conf, hostname, hosts."""
    run_directory: Path
    """Gone after a reboot: pinned namespaces and /dev/shm."""
    hostname: str
    cgroup_parent: str
    """The pod's cgroup, below which its containers' cgroups are made; a path, or a slice name with the systemd driver."""
    namespaces: NamespacePaths = NamespacePaths()
    network: NetworkAttachment = NetworkAttachment()
    pause: ProcessIdentity | None = None
    """The process that holds the PID namespace of a pod that shares one."""
    idmap: IdMap | None = None
    """Of the pod's user namespace; None with the host's."""
    boot: str = ""
    """The boot of the machine (random(4)) in which it was made, and which it does not survive; empty if that is not known."""

    @property
    def shm_path(self) -> Path:
        """The tmpfs that the pod's containers share as /dev/shm."""
        return self.run_directory / "shm"

    @property
    def resolv_conf(self) -> Path:
        """The pod's /etc/resolv.conf."""
        return self.directory / "resolv.conf"

    @property
    def hostname_file(self) -> Path:
        """The pod's /etc/hostname."""
        return self.directory / "hostname"

    @property
    def hosts_file(self) -> Path:
        """The pod's /etc/hosts, for containers that the client gives none of its own."""
        return self.directory / "hosts"


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What has happened to the sandbox. Times are nanoseconds since the epoch, 0 for "not yet"."""

    stopped_at: int = 0
    network_released: bool = False
    resources: cri.LinuxContainerResources | None = None
    """The pod's limits after UpdatePodSandboxResources; None while the config's own are in force."""
    overhead: cri.LinuxContainerResources | None = None
    """What the pod costs beside its containers, likewise."""

    @property
    def ready(self) -> bool:
        """Whether the sandbox can take containers."""
        return not self.stopped_at


class PodSandbox(Tracked[SandboxMetadata, SandboxStatus]):
    """One pod sandbox."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<PodSandbox {self.id[:13]} {'ready' if self._status.ready else 'stopped'} {self.metadata.name}>"


def pause_report(run_directory: Path, boot: str) -> Path:
    """Return the file that names the pause process of the pod with that run directory, as of the boot `boot`."""
    return run_directory / f"pause-{boot}"
