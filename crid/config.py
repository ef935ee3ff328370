"""The configuration file: TOML, tables and keys named as in CRI-O's crio.conf where CRI-O has them.

Every key, its type and its default stand once, as the fields of the dataclasses below. A key that is not known, a value
of another type or a value that contradicts another is refused with the key's full name: a daemon that starts with a
misspelt option would surprise somebody later.
"""

import ipaddress
import re
import tomllib
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from crid.errors import InvalidArgumentError
from crid.log import LEVELS

DEFAULT_PATH = Path("/etc/crid/crid.conf")

DEFAULT_CAPABILITIES = "CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL"
"""What a container gets unless told otherwise: CRI-O's nine. containerd and Docker add NET_RAW, MKNOD, SYS_CHROOT, SETFCAP
and AUDIT_WRITE, which few containers need and which have cost security fixes."""

TLS_VERSIONS = ("VersionTLS12", "VersionTLS13")
"""The least TLS versions that may be asked for, by their names in CRI-O's configuration."""

METRIC_GROUPS = ("cpu", "memory", "network", "oom", "process", "spec", "disk", "diskIO", "hugetlb", "pressure")
"""What `included_pod_metrics` may name, as in CRI-O."""

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
"""Seconds of each unit of a duration."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`[crid.api]`: where clients reach the daemon.

    `stream_*` are the streaming server's. `stream_port` "0" is a free port; an empty `stream_idle_timeout` is four hours,
    "0" is none. With `stream_tls_ca` clients must show a certificate that it has signed.
    """

    listen: str = "/var/run/crid/crid.sock"
    stream_address: str = "127.0.0.1"
    stream_port: str = "0"
    stream_idle_timeout: str = ""
    stream_enable_tls: bool = False
    stream_tls_cert: str = ""
    stream_tls_key: str = ""
    stream_tls_ca: str = ""
    tls_min_version: str = "VersionTLS12"


@dataclass(frozen=True, slots=True)
class RuntimeHandlerConfig:
    """`[crid.runtime.runtimes.NAME]`: one OCI runtime. Empty paths: the program NAME and crid's own conmon are searched.

    `allowed_annotations` are names, or beginnings of names that end in `*`, of pods' and containers' annotations that the
    runtime gets to see. An empty `seccomp_profile` and a `container_create_timeout` of 0 take those of `[crid.runtime]`.
    """

    runtime_path: str = ""
    runtime_root: str = ""
    monitor_path: str = ""
    allowed_annotations: list[str] = field(default_factory=list)
    default_annotations: dict[str, str] = field(default_factory=dict)
    privileged_without_host_devices: bool = False
    container_min_memory: str = ""
    container_create_timeout: int = 0
    seccomp_profile: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """`[crid.runtime]`. An empty `default_runtime` takes crun where it works on this host, else runc.

    An empty `seccomp_profile` is crid's own; so is the `apparmor_profile` crid-default, and "unconfined" is none.
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
    runtimes: dict[str, RuntimeHandlerConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """`[crid.image]`. Sizes are in bytes; a limit or a timeout of 0 is none.

    An empty `signature_policy` is /etc/containers/policy.json where that exists, and accepts everything where not.
    `pinned_images` are names, beginnings of names that end in `*`, or words between two `*`. A connection that brings less
    than 64 KiB in `pull_progress_timeout` is taken for broken. `layer_ratio_limit` is of unpacked to compressed size, and
    counts from 1 GiB on.
    """

    registries_conf: str = "/etc/containers/registries.conf"
    certs_dirs: list[str] = field(default_factory=lambda: ["/etc/containers/certs.d", "/etc/docker/certs.d"])
    global_auth_file: str = ""
    namespaced_auth_dir: str = "/etc/crid/auth"
    signature_policy: str = ""
    signature_policy_dir: str = "/etc/crid/policies"
    pause_image: str = "registry.k8s.io/pause:3.10"
    pinned_images: list[str] = field(default_factory=list)
    max_concurrent_downloads: int = 6
    pull_progress_timeout: str = "1m"
    layer_size_limit: int = 100 << 30
    layer_entries_limit: int = 1_000_000
    layer_ratio_limit: int = 500


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """`[crid.network]`. `subnet` and `bridge` are the built-in network's, the other keys CNI's.

    `subnet` is one CIDR, or an IPv4 and an IPv6 one with a comma between, as in Kubernetes' own options; the first is the
    primary one. An empty `bridge` is named by the subnet: crid0 for the default one.
    """

    network_dir: str = "/etc/cni/net.d/"
    plugin_dirs: list[str] = field(default_factory=lambda: ["/opt/cni/bin/", "/usr/lib/cni/"])
    cni_default_network: str = ""
    disable_hostport_mapping: bool = False
    subnet: str = "10.88.0.0/16"
    bridge: str = ""

    def subnets(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Return the networks that `subnet` names. Raises ValueError."""
        return [ipaddress.ip_network(text.strip()) for text in self.subnet.split(",")]


@dataclass(frozen=True, slots=True)
class StatsConfig:
    """`[crid.stats]`. `included_pod_metrics` are the groups of series of ListPodSandboxMetrics, or "all" alone."""

    included_pod_metrics: list[str] = field(default_factory=lambda: ["all"])

    def metric_groups(self) -> frozenset[str]:
        """Return the groups, "all" written out."""
        return frozenset(METRIC_GROUPS if self.included_pod_metrics == ["all"] else self.included_pod_metrics)


@dataclass(frozen=True, slots=True)
class NriConfig:
    """`[crid.nri]`: plugins. An empty `nri_listen` is nri.sock in the runroot.

    Not /var/run/nri/nri.sock, where NRI plugins look by themselves: two runtimes of one host would fight for it.
    """

    enable_nri: bool = True
    nri_listen: str = ""
    nri_plugin_registration_timeout: str = "5s"
    nri_plugin_request_timeout: str = "2s"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, `[crid]` being its root table."""

    root: str = "/var/lib/crid"
    runroot: str = "/var/run/crid"
    api: ApiConfig = field(default_factory=ApiConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    nri: NriConfig = field(default_factory=NriConfig)
    stats: StatsConfig = field(default_factory=StatsConfig)


def load(path: Path, *, required: bool = True) -> Config:
    """Read and check the file at `path`. Without `required`, a missing file gives the defaults.

    Raises InvalidArgumentError naming the file and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not required:
            return Config()
        raise InvalidArgumentError(f"configuration {path}: {error.strerror}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(f"configuration {path}: {error}") from error
    try:
        return parse(document)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"configuration {path}: {error}") from error


def parse(document: dict[str, Any]) -> Config:
    """Build a Config from parsed TOML. Raises InvalidArgumentError naming the key."""
    unknown = sorted(set(document) - {"crid"})
    if unknown:
        raise InvalidArgumentError(f"unknown table [{unknown[0]}]: everything is below [crid]")
    config: Config = _build(Config, document.get("crid", {}), "crid")
    _check(config)
    return config


def _build(kind: Any, table: object, where: str) -> Any:
    """Build the dataclass `kind` from a TOML table; `where` is the dotted name used in errors."""
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"{where}: must be a table")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(table) - {item.name for item in fields(kind)})
    if unknown:
        raise InvalidArgumentError(f"{where}.{unknown[0]}: unknown key")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in table.items()})


def _value(kind: Any, value: object, where: str) -> object:
    """Check `value` against the annotation `kind` and return it, built where `kind` is a table."""
    if is_dataclass(kind):
        return _build(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is dict:
        if not isinstance(value, dict):
            raise InvalidArgumentError(f"{where}: must be a table")
        element = typing.get_args(kind)[1]
        return {name: _value(element, entry, f"{where}.{name}") for name, entry in value.items()}
    if origin is list:
        if not isinstance(value, list):
            raise InvalidArgumentError(f"{where}: must be an array")
        element = typing.get_args(kind)[0]
        return [_value(element, entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    assert not isinstance(kind, UnionType), "no key has a union type"
    if type(value) is not kind:
        raise InvalidArgumentError(f"{where}: must be of type {kind.__name__}, is {type(value).__name__}")
    return value


def _check(config: Config) -> None:
    """Refuse values that can only be wrong."""
    for name in ("root", "runroot"):
        if not Path(getattr(config, name)).is_absolute():
            raise InvalidArgumentError(f"crid.{name}: must be an absolute path")
    if not Path(config.api.listen.removeprefix("unix://")).is_absolute():
        raise InvalidArgumentError("crid.api.listen: must be the absolute path of a unix socket")
    _check_streams(config.api)
    _check_image(config.image)
    _check_runtime(config.runtime)
    _check_network(config.network)
    _check_nri(config.nri)
    _check_stats(config.stats)


def _check_stats(stats: StatsConfig) -> None:
    if "all" in stats.included_pod_metrics and len(stats.included_pod_metrics) > 1:
        raise InvalidArgumentError('crid.stats.included_pod_metrics: "all" must stand alone')
    if unknown := sorted(stats.metric_groups() - set(METRIC_GROUPS)):
        raise InvalidArgumentError(
            f"crid.stats.included_pod_metrics: {unknown[0]!r} is none of all, {', '.join(METRIC_GROUPS)}"
        )


def _check_image(image: ImageConfig) -> None:
    if image.max_concurrent_downloads < 1:
        raise InvalidArgumentError("crid.image.max_concurrent_downloads: must be at least 1")
    for key in ("layer_size_limit", "layer_entries_limit", "layer_ratio_limit"):
        if getattr(image, key) < 0:
            raise InvalidArgumentError(f"crid.image.{key}: must not be negative")
    for key in ("global_auth_file", "namespaced_auth_dir", "signature_policy", "signature_policy_dir"):
        path = getattr(image, key)
        if path and not Path(path).is_absolute():
            raise InvalidArgumentError(f"crid.image.{key}: must be an absolute path")
    try:
        seconds(image.pull_progress_timeout)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"crid.image.pull_progress_timeout: {error}") from error


def _check_streams(api: ApiConfig) -> None:
    try:
        ipaddress.ip_address(api.stream_address)
    except ValueError as error:
        raise InvalidArgumentError(f"crid.api.stream_address: {error}") from error
    if not (api.stream_port.isascii() and api.stream_port.isdigit() and int(api.stream_port) < 65536):
        raise InvalidArgumentError("crid.api.stream_port: must be a port number, or 0 for a free one")
    try:
        seconds(api.stream_idle_timeout)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"crid.api.stream_idle_timeout: {error}") from error
    if api.tls_min_version not in TLS_VERSIONS:
        raise InvalidArgumentError(f"crid.api.tls_min_version: must be one of {', '.join(TLS_VERSIONS)}")


def seconds(duration: str) -> float:
    """Return a duration such as "4h", "1h30m" or "500ms" in seconds; "" and "0" are 0. Raises InvalidArgumentError."""
    if duration in ("", "0"):
        return 0.0
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", duration, re.ASCII):
        raise InvalidArgumentError(f"{duration!r} is no duration such as 4h, 1h30m or 500ms")
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))


def _check_runtime(runtime: RuntimeConfig) -> None:
    if runtime.cgroup_manager not in ("cgroupfs", "systemd"):
        raise InvalidArgumentError("crid.runtime.cgroup_manager: must be cgroupfs or systemd")
    if runtime.log_level not in LEVELS:
        raise InvalidArgumentError(f"crid.runtime.log_level: must be one of {', '.join(LEVELS)}")
    if runtime.log_size_max != -1 and runtime.log_size_max < 8192:
        raise InvalidArgumentError("crid.runtime.log_size_max: must be -1 (no limit) or at least 8192 bytes")
    if runtime.ctr_stop_timeout < 0:
        raise InvalidArgumentError("crid.runtime.ctr_stop_timeout: must not be negative")
    if runtime.container_create_timeout < 1:
        raise InvalidArgumentError("crid.runtime.container_create_timeout: must be at least 1 second")
    for key, path in (
        ("seccomp_profile", runtime.seccomp_profile),
        *((f"runtimes.{name}.seccomp_profile", handler.seccomp_profile) for name, handler in runtime.runtimes.items()),
    ):
        if path and not Path(path).is_absolute():
            raise InvalidArgumentError(f"crid.runtime.{key}: must be an absolute path")
    for name, handler in runtime.runtimes.items():
        if handler.container_create_timeout < 0:
            raise InvalidArgumentError(f"crid.runtime.runtimes.{name}.container_create_timeout: must not be negative")
        if name in ("", ".", "..") or "/" in name or not name.isprintable():  # it names a directory
            raise InvalidArgumentError(f"crid.runtime.runtimes: {name!r} is no name for a runtime")
    if runtime.default_runtime and runtime.runtimes and runtime.default_runtime not in runtime.runtimes:
        raise InvalidArgumentError(f"crid.runtime.default_runtime: no table crid.runtime.runtimes.{runtime.default_runtime}")


def _check_nri(nri: NriConfig) -> None:
    if nri.nri_listen and not Path(nri.nri_listen).is_absolute():
        raise InvalidArgumentError("crid.nri.nri_listen: must be the absolute path of a unix socket")
    for key in ("nri_plugin_registration_timeout", "nri_plugin_request_timeout"):
        try:
            allowed = seconds(getattr(nri, key)) > 0
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"crid.nri.{key}: {error}") from error
        if not allowed:
            raise InvalidArgumentError(f"crid.nri.{key}: must be more than 0")


def _check_network(network: NetworkConfig) -> None:
    try:
        subnets = network.subnets()
    except ValueError as error:
        raise InvalidArgumentError(f"crid.network.subnet: {error}") from error
    if len({subnet.version for subnet in subnets}) != len(subnets):
        raise InvalidArgumentError("crid.network.subnet: at most one subnet of each IP version")
    for subnet in subnets:
        if subnet.num_addresses < 8:
            raise InvalidArgumentError(f"crid.network.subnet: {subnet} must hold at least 8 addresses")
    for name, paths in (("network_dir", [network.network_dir]), ("plugin_dirs", network.plugin_dirs)):
        if not all(Path(path).is_absolute() for path in paths):
            raise InvalidArgumentError(f"crid.network.{name}: must be absolute")
    bridge = network.bridge
    if len(bridge.encode()) > 15 or bridge in (".", "..") or any(letter in "/:" or letter.isspace() for letter in bridge):
        raise InvalidArgumentError(
            "crid.network.bridge: an interface name has at most 15 characters, and no slash, colon or space"
        )
