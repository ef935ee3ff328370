"""What the configuration gives to, or allows, every container of a runtime handler: `[crid.runtime]` and its tables.

The texts of the configuration are parsed here, once, at the daemon's start, so that a value that cannot be meant is
refused then. All errors are InvalidArgumentError; the caller adds the key's name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crid.config import DEFAULT_CAPABILITIES
from crid.errors import InvalidArgumentError
from crid.model.device import Device
from crid.model.idmap import IdMap
from crid.oci.spec import capabilities
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION

DEFAULT = frozenset(f"CAP_{name}" for name in DEFAULT_CAPABILITIES.split())
"""The default capabilities by the names of the OCI spec."""

UNLIMITED = 2**64 - 1
"""RLIM_INFINITY, getrlimit(2)."""

_ULIMIT = re.compile(r"([a-z]+)=(-1|[0-9]{1,20})(?::(-1|[0-9]{1,20}))?")
_LIMITS = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
_SIZE = re.compile(r"([0-9]{1,12})\s*([kmgKMG]i?)?[bB]?")
_UNITS = {"": 1, "k": 1000, "ki": 1 << 10, "m": 1000**2, "mi": 1 << 20, "g": 1000**3, "gi": 1 << 30}


@dataclass(frozen=True, slots=True)
class Ulimit:
    """One resource limit: `name` as in `nofile`, UNLIMITED for none."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class AskedDevice:
    """A device as the configuration or an annotation names it: `HOST[:CONTAINER[:PERMISSIONS]]`."""

    host_path: str
    container_path: str
    permissions: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The parsed form."""

    capabilities: frozenset[str] = DEFAULT
    environment: tuple[str, ...] = ()
    """`NAME=VALUE`, below what the image and the client say."""
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Of every pod that has the namespace."""
    allowed_annotations: tuple[str, ...] = ()
    default_annotations: Mapping[str, str] = field(default_factory=dict)
    privileged_without_host_devices: bool = False
    host_network_without_selinux: bool = True
    allowed_devices: frozenset[str] = frozenset()
    """Host paths that a pod may ask for by annotation."""
    additional_devices: tuple[tuple[AskedDevice, Device], ...] = ()
    """What every container gets."""
    min_memory: int = 0
    """The smallest memory limit, in bytes, that is not refused; 0 for any."""
    seccomp_default: str | None = None
    """Text of the profile that stands for RuntimeDefault; None for crid's own."""
    seccomp_privileged: str | None = None
    """Text of the profile of privileged containers; None for no filter."""
    inheritable_capabilities: bool = False
    """Whether the bounding set is inheritable, too."""
    device_ownership: bool = False
    """Whether the config's devices belong to the user and group that the container runs as by number."""
    read_only: bool = False
    """Whether every root file system is read-only, with a few directories in memory."""
    localtime: str = ""
    """The file that containers have as /etc/localtime; empty for the image's own."""
    bind_mount_prefix: str = ""
    """Where the host's root is to be found by whoever mounts; empty for the daemon's own."""
    absent_sources_refused: frozenset[str] = frozenset()
    """Host paths that are not made where they are missing."""
    default_mounts: tuple[tuple[str, str], ...] = ()
    """Directories of the host of which every container gets a copy: source and target."""
    image_volumes: str = "mkdir"
    """What becomes of an image's VOLUMEs: mkdir, bind or ignore."""
    minimum_mappable_uid: int = -1
    minimum_mappable_gid: int = -1
    """The smallest ids of the host that a pod's user namespace may have; negative for any."""
    default_user_namespace: IdMap | None = None
    """The map of pods that say nothing of a user namespace; None for the host's."""


def capability_names(values: Iterable[str]) -> frozenset[str]:
    """Return canonical names; ALL stands for every one."""
    names = capabilities.names(values, "default_capabilities")
    return frozenset(capabilities.KNOWN if capabilities.ALL in names else names)


def environment(values: Iterable[str]) -> tuple[str, ...]:
    """Return `values` if each is NAME=VALUE."""
    kept = tuple(values)
    for value in kept:
        name, separator, _ = value.partition("=")
        if not name or not separator or "\0" in value:
            raise InvalidArgumentError(f"{value[:64]!r} is not NAME=VALUE")
    return kept


def ulimits(values: Iterable[str]) -> tuple[Ulimit, ...]:
    """Parse `nofile=1024:2048`, `core=-1`: one number is both the soft and the hard limit, -1 is no limit."""
    parsed = {}
    for value in values:
        match = _ULIMIT.fullmatch(value)
        if match is None or match[1] not in _LIMITS.split():
            raise InvalidArgumentError(f"{value[:64]!r} is no limit such as nofile=1024:2048")
        soft = _limit(match[2])
        hard = _limit(match[3] or match[2])
        if soft > hard:
            raise InvalidArgumentError(f"{value[:64]!r}: the soft limit is above the hard limit")
        parsed[match[1]] = Ulimit(match[1], soft, hard)
    return tuple(parsed.values())


def _limit(word: str) -> int:
    return min(UNLIMITED if word == "-1" else int(word), UNLIMITED)


def sysctls(values: Iterable[str]) -> dict[str, str]:
    """Parse `kernel.shm_rmid_forced=1`."""
    parsed = {}
    for value in values:
        name, separator, setting = value.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", name.strip()) or not separator or not setting.strip():
            raise InvalidArgumentError(f"{value[:64]!r} is no sysctl such as net.ipv4.ping_group_range=0 0")
        parsed[name.strip()] = setting.strip()
    return parsed


def size(text: str) -> int:
    """Parse bytes: `500KiB`, `12MiB`, `1048576`; nothing is 0."""
    if not text:
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgumentError(f"{text[:32]!r} is no size such as 12MiB")
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def device(text: str) -> AskedDevice:
    """Parse `/dev/fuse`, `/dev/fuse:/dev/fuse2`, `/dev/fuse:rw` or `/dev/fuse:/dev/fuse2:rwm`."""
    host, *more = text.strip().split(":")
    path = more.pop(0) if more and more[0].startswith("/") else host
    permissions = more.pop(0) if more else "rwm"
    if not host.startswith("/dev/") or ".." in host.split("/") or more or not permissions or not set(permissions) <= set("rwm"):
        raise InvalidArgumentError(f"{text[:128]!r} is no device such as /dev/fuse:/dev/fuse:rwm")
    return AskedDevice(host, path, permissions)


def allowed_annotations(
    patterns: Iterable[str], pod: Mapping[str, str], container: Mapping[str, str], defaults: Mapping[str, str]
) -> dict[str, str]:
    """Return the annotations that the OCI runtime gets: the handler's defaults, then the pod's, then the container's.

    A pod's and a container's pass only if their name is listed in `patterns`, or begins with one that ends in `*`. The
    program that crid itself hands to crun instead of a seccomp profile is nobody else's to set: it would replace the
    profile.
    """
    wanted = tuple(patterns)
    asked = {name: value for name, value in {**pod, **container}.items() if allows(wanted, name)}
    merged = {**defaults, **asked}
    merged.pop(PROGRAM_ANNOTATION, None)
    return merged


def allows(patterns: tuple[str, ...], name: str) -> bool:
    """Whether the annotation of that name is listed in `patterns`, or begins with one that ends in `*`."""
    return any(name.startswith(each[:-1]) if each.endswith("*") else name == each for each in patterns)
