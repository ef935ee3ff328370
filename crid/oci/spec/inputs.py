"""What the spec builder is given and what it gives back: facts only, gathered by callers that may touch the machine.

The builder itself never looks at a file, a socket or a clock, so everything it must know of the host, the image and the
pod is a field here. The caller resolves host paths (symbolic links followed, existence checked) and reads texts; a path
that a container's config names and that is missing from `sources` or `devices` does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crid.cri import api_pb2 as cri
from crid.model.device import Device
from crid.model.image import Image
from crid.model.resources import HostResources
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec.asked import NOTHING, Asked
from crid.oci.spec.edits import Edits
from crid.oci.spec.hooks import ConditionalHook
from crid.oci.spec.policy import AskedDevice, Policy
from crid.oci.spec.tuning_policy import TuningPolicy


@dataclass(frozen=True, slots=True)
class Host:
    """Facts of the machine, the daemon and the runtime handler, gathered once."""

    capabilities: frozenset[str]
    """What the daemon itself holds, by `CAP_` names. A spec never grants more."""
    resources: HostResources
    machine: str = "x86_64"
    """uname(2)'s machine: selects the architectures of the seccomp profile."""
    apparmor: bool = False
    apparmor_default_profile: str = ""
    """The loaded profile that stands for "runtime/default"; empty where there is none."""
    apparmor_disabled: bool = False
    """Whether the configuration wants none to stand for it."""
    selinux: bool = False
    """Whether containers get SELinux labels."""
    seccomp: bool = True
    oom_score_adj: int = 0
    """The daemon's own."""
    can_lower_oom_score: bool = True
    """Whether the daemon may go below its own oom_score_adj: CAP_SYS_RESOURCE, proc_pid_oom_score_adj(5)."""
    devices: tuple[Device, ...] = ()
    """The host's device nodes, for privileged containers."""
    recursive_read_only: bool = False
    """Whether the handler and the kernel (5.12, mount_setattr(2)) can do recursive read-only mounts."""
    user_namespaces: bool = False
    """Whether pods can have user namespaces: the kernel can map the owners of a mount's files, and the handler works."""
    container_env: str = ""
    """An empty file, by which programs know that they run in a container: /run/.containerenv. Empty for none."""
    no_fips: str = ""
    """A file that says that FIPS mode is off, on a host where it is on."""
    policy: Policy = field(default_factory=Policy)
    """What the configuration says about every container of the handler."""
    tuning: TuningPolicy = field(default_factory=TuningPolicy)
    """What it says about their CPUs."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A mount that crid has prepared at `path`; `image_id` tells which image it is, if it is one."""

    path: str
    image_id: str = ""


@dataclass(frozen=True, slots=True)
class SpecInputs:
    """One container to be described."""

    container_id: str
    config: cri.ContainerConfig
    sandbox: SandboxMetadata
    """Its resolv.conf, hostname, hosts and shm paths are mounted, so they must exist when the container is created."""
    image: Image
    rootfs: str
    """Absolute path of the mounted root file system."""
    cgroup_path: str
    """For linux.cgroupsPath: a path, or `slice:prefix:name` with the systemd driver."""
    host: Host
    container_name: str = ""
    """The container's name in its pod; empty takes the config's metadata."""
    passwd: str = ""
    """Text of the image's /etc/passwd, bounded in size and read without following links out of the image."""
    group: str = ""
    """Text of the image's /etc/group, likewise."""
    pid_namespace: str = ""
    """Path of the namespace to join for POD and TARGET; empty makes a new one. Not used for NODE."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Each existing mounts[].host_path of the config, with its path after resolution."""
    volumes: Mapping[int, Volume] = field(default_factory=dict)
    """What crid itself has mounted for mounts[] of the config, by index: images, and host paths with mapped owners."""
    devices: Mapping[str, tuple[Device, ...]] = field(default_factory=dict)
    """Each existing devices[].host_path of the config: the node, or the nodes below it if it is a directory."""
    apparmor_profiles: frozenset[str] = frozenset()
    """Names of the loaded AppArmor profiles, if the config names one."""
    asked: Asked = NOTHING
    """What annotations ask for, where the handler allows it."""
    annotated_devices: tuple[tuple[AskedDevice, Device], ...] = ()
    """The devices among that."""
    given_mounts: Mapping[str, str] = field(default_factory=dict)
    """Directories that crid has made for the container: the source of each target."""
    edits: tuple[Edits, ...] = ()
    """Of the CDI devices that the config asks for, each device node of them complete."""
    hooks: tuple[ConditionalHook, ...] = ()
    """All that the administrator has; which of them the container gets is decided here."""
    localhost_seccomp: str | None = None
    """Text of the profile that the config names with type Localhost."""
    pids_limit: int = -1
    """The most tasks a container may have; 0 and below: no limit of its own."""
    selinux_process_label: str = ""
    selinux_mount_label: str = ""
    block_io: Mapping[str, Any] = field(default_factory=dict)
    """The class of block I/O that the annotations choose, as the spec's `linux.resources.blockIO`; empty for none."""
    rdt_class: str = ""
    """The class of RDT, likewise; it exists."""
    cpu_siblings: frozenset[int] = frozenset()
    """The threads of the core of the container's first CPU, if an annotation makes that of importance."""
    monitor_scope: str = ""
    """The systemd unit that the container's monitor will run in, if it gets one."""


@dataclass(frozen=True, slots=True)
class BuiltSpec:
    """What came of it. Everything but `spec` is to be recorded or reported with the container."""

    spec: dict[str, Any]
    """The OCI runtime-spec document; `builder.encode` turns it into config.json."""
    user: cri.ContainerUser
    """Who the first process runs as, for ContainerStatus."""
    mounts: tuple[cri.Mount, ...]
    """The mounts to report: the config's, in its order and as asked for."""
    stop_signal: str
    """Canonical name; `signals.number` gives the number."""
    account: str = ""
    """What to append to the container's /etc/passwd."""
    resources: cri.LinuxContainerResources | None = None
    """The limits in force, where they are not the config's."""
    warnings: tuple[str, ...] = ()
    """What was asked for and not fully given, for the log."""
