"""`[crid.runtime]` and `[crid.runtime.runtimes.NAME]`: how containers are run."""

from dataclasses import dataclass, field

from crid.config.values import check_path
from crid.config.workloads import WorkloadConfig
from crid.errors import InvalidArgumentError
from crid.log import LEVELS

DEFAULT_CAPABILITIES = "CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL"
"""What a container gets unless told otherwise: CRI-O's nine. containerd and Docker add NET_RAW, MKNOD, SYS_CHROOT, SETFCAP
and AUDIT_WRITE, which few containers need and which have cost security fixes."""


_PATHS = (
    "seccomp_profile",
    "privileged_seccomp_profile",
    "bind_mount_prefix",
    "default_mounts_file",
    "conmon",
    "irqbalance_config_file",
    "blockio_config_file",
    "rdt_config_file",
)
"""Keys of `[crid.runtime]` whose values are absolute paths, or empty."""


@dataclass(frozen=True, slots=True)
class RuntimeHandlerConfig:
    """`[crid.runtime.runtimes.NAME]`: one OCI runtime. Empty paths: the program NAME and crid's own conmon are searched.

    `allowed_annotations` are names, or beginnings of names that end in `*`, of pods' and containers' annotations that the
    runtime gets to see, and that may ask crid itself for something (crid.oci.spec.asked). An empty `seccomp_profile` and a
    `container_create_timeout` of 0 take those of `[crid.runtime]`. With `inherit_default_runtime` the runtime's path and root
    are those of the default one. A `runtime_type` is "oci" or empty: CRI-O's others, for virtual machines, are not served.
    """

    runtime_path: str = ""
    runtime_type: str = ""
    runtime_root: str = ""
    monitor_path: str = ""
    allowed_annotations: list[str] = field(default_factory=list)
    default_annotations: dict[str, str] = field(default_factory=dict)
    privileged_without_host_devices: bool = False
    container_min_memory: str = ""
    container_create_timeout: int = 0
    seccomp_profile: str = ""
    inherit_default_runtime: bool = False
    no_sync_log: bool = False
    monitor_env: list[str] = field(default_factory=list)
    monitor_cgroup: str = ""
    monitor_exec_cgroup: str = ""
    exec_cpu_affinity: str = ""

    def check(self, table: str, cgroup_manager: str) -> None:
        """Refuse values that can only be wrong; `table` is this one's name. Raises InvalidArgumentError naming the key."""
        if self.container_create_timeout < 0:
            raise InvalidArgumentError(f"{table}.container_create_timeout: must not be negative")
        if self.runtime_type not in ("", "oci"):
            raise InvalidArgumentError(f"{table}.runtime_type: {self.runtime_type!r} is not served, only oci is")
        check_path(f"{table}.seccomp_profile", self.seccomp_profile)
        _check_monitor_cgroup(f"{table}.monitor_cgroup", self.monitor_cgroup, cgroup_manager)
        if self.monitor_exec_cgroup not in ("", "container"):
            raise InvalidArgumentError(f"{table}.monitor_exec_cgroup: must be empty or container")
        if self.exec_cpu_affinity not in ("", "first"):
            raise InvalidArgumentError(f"{table}.exec_cpu_affinity: must be empty or first")


def _check_monitor_cgroup(key: str, value: str, cgroup_manager: str) -> None:
    if value in ("", "pod") or (cgroup_manager == "systemd" and value.endswith(".slice")):
        return
    raise InvalidArgumentError(f"{key}: must be empty, pod, or with the systemd cgroup manager a slice")


def _check_user_name(key: str, value: str) -> None:
    if not value or ":" in value:
        raise InvalidArgumentError(f"{key}: {value[:64]!r} is no user's name")


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """`[crid.runtime]`. An empty `default_runtime` takes crun where it works on this host, else runc.

    An empty `seccomp_profile` is crid's own; so is the `apparmor_profile` crid-default, and "unconfined" is none. An empty
    `privileged_seccomp_profile` is no filter. `timezone` is "Local" or a name such as Europe/Berlin. `conmon` and `conmon_env`
    are for handlers that have no monitor_path and monitor_env. A negative `minimum_mappable_uid` or gid is none.
    `uid_mappings` and `gid_mappings`, INSIDE:HOST:LENGTH with commas between them, are of pods that say nothing of a user
    namespace; empty is the host's. `root_auto_userns_user` is whose ids of /etc/subuid and /etc/subgid pods get that leave
    the choice to crid.
    """

    default_runtime: str = ""
    cgroup_manager: str = "cgroupfs"
    log_level: str = "info"
    log_size_max: int = -1
    pids_limit: int = -1
    ctr_stop_timeout: int = 30
    container_create_timeout: int = 240
    default_capabilities: list[str] = field(default_factory=DEFAULT_CAPABILITIES.split)
    default_env: list[str] = field(default_factory=list)
    default_ulimits: list[str] = field(default_factory=list)
    default_sysctls: list[str] = field(default_factory=list)
    allowed_devices: list[str] = field(default_factory=lambda: ["/dev/fuse", "/dev/net/tun"])
    additional_devices: list[str] = field(default_factory=list)
    seccomp_profile: str = ""
    apparmor_profile: str = "crid-default"
    selinux: bool = False
    hostnetwork_disable_selinux: bool = True
    privileged_seccomp_profile: str = ""
    add_inheritable_capabilities: bool = False
    device_ownership_from_security_context: bool = False
    absent_mount_sources_to_reject: list[str] = field(default_factory=list)
    bind_mount_prefix: str = ""
    default_mounts_file: str = ""
    read_only: bool = False
    timezone: str = ""
    uid_mappings: str = ""
    gid_mappings: str = ""
    root_auto_userns_user: str = "containers"
    minimum_mappable_uid: int = -1
    minimum_mappable_gid: int = -1
    no_pivot: bool = False
    log_to_journald: bool = False
    conmon: str = ""
    conmon_env: list[str] = field(default_factory=list)
    conmon_cgroup: str = ""
    infra_ctr_cpuset: str = ""
    shared_cpuset: str = ""
    min_injected_gomaxprocs: int = 0
    irqbalance_config_file: str = ""
    irqbalance_config_restore_file: str = ""
    blockio_config_file: str = ""
    blockio_reload: bool = False
    rdt_config_file: str = ""
    workloads: dict[str, WorkloadConfig] = field(default_factory=dict)
    cdi_spec_dirs: list[str] = field(default_factory=lambda: ["/etc/cdi", "/var/run/cdi"])
    hooks_dir: list[str] = field(default_factory=lambda: ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"])
    runtimes: dict[str, RuntimeHandlerConfig] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        if self.cgroup_manager not in ("cgroupfs", "systemd"):
            raise InvalidArgumentError("crid.runtime.cgroup_manager: must be cgroupfs or systemd")
        if self.log_level not in LEVELS:
            raise InvalidArgumentError(f"crid.runtime.log_level: must be one of {', '.join(LEVELS)}")
        if self.log_size_max != -1 and self.log_size_max < 8192:
            raise InvalidArgumentError("crid.runtime.log_size_max: must be -1 (no limit) or at least 8192 bytes")
        if self.ctr_stop_timeout < 1:
            raise InvalidArgumentError("crid.runtime.ctr_stop_timeout: must be at least 1 second")
        if self.container_create_timeout < 1:
            raise InvalidArgumentError("crid.runtime.container_create_timeout: must be at least 1 second")
        for key, path in (
            *((key, getattr(self, key)) for key in _PATHS),
            *(("absent_mount_sources_to_reject", path) for path in self.absent_mount_sources_to_reject),
            *(("cdi_spec_dirs", path) for path in self.cdi_spec_dirs),
            *(("hooks_dir", path) for path in self.hooks_dir),
        ):
            check_path(f"crid.runtime.{key}", path)
        if self.irqbalance_config_restore_file != "disable":
            check_path("crid.runtime.irqbalance_config_restore_file", self.irqbalance_config_restore_file)
        if self.min_injected_gomaxprocs < 0:
            raise InvalidArgumentError("crid.runtime.min_injected_gomaxprocs: must not be negative")
        _check_monitor_cgroup("crid.runtime.conmon_cgroup", self.conmon_cgroup, self.cgroup_manager)
        _check_user_name("crid.runtime.root_auto_userns_user", self.root_auto_userns_user)
        for name, handler in self.runtimes.items():
            handler.check(f"crid.runtime.runtimes.{name}", self.cgroup_manager)
            if name in ("", ".", "..") or "/" in name or not name.isprintable():  # it names a directory
                raise InvalidArgumentError(f"crid.runtime.runtimes: {name!r} is no name for a runtime")
        if self.default_runtime and self.runtimes and self.default_runtime not in self.runtimes:
            raise InvalidArgumentError(f"crid.runtime.default_runtime: no table crid.runtime.runtimes.{self.default_runtime}")
