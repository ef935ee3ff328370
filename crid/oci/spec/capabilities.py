"""The capability sets of a container's first process, capabilities(7).

Rules:

- The bounding set is the default set, changed by `add_capabilities` and `drop_capabilities`. ALL in either replaces the
  default set, by everything or by nothing; what is dropped by name is then taken out, whatever added it.
- A drop of ALL together with single adds leaves the adds: that is how pods are told to ask for one capability only. ALL
  both added and dropped is dropped.
- Nothing is granted that the daemon does not hold itself: the kernel would refuse, or worse, the runtime would ignore it.
- The inheritable set is empty but for ambient capabilities (CVE-2022-24769 and its kin: a file's inheritable bits would
  otherwise work for everyone in the container), unless the configuration wants the bounding set there.
- A user other than root has only the ambient capabilities: execve(2) would clear the others anyway, and clearing them
  before keeps the runtime from opening the program with a power that the user lacks. The bounding set stays, for setuid
  programs.
- A privileged container gets all that the daemon holds; `capabilities` is ignored then.
"""

from collections.abc import Iterable

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError

_NUMBERED = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
KNOWN = tuple(f"CAP_{name}" for name in _NUMBERED.split())
"""Every capability of Linux 5.9 and later, in the order of their numbers."""

ALL = "ALL"
"""Every capability, in what clients and the configuration say."""


def effective_bounding(
    security: cri.LinuxContainerSecurityContext, held: frozenset[str], default: Iterable[str]
) -> tuple[frozenset[str], list[str]]:
    """Return the bounding set and warnings about what was asked for and cannot be given.

    Raises InvalidArgumentError naming a capability that does not exist.
    """
    if security.privileged:
        return held & frozenset(KNOWN), []
    requested = security.capabilities
    ambient = names(requested.add_ambient_capabilities, "add_ambient_capabilities")
    added = names(requested.add_capabilities, "add_capabilities") | ambient
    dropped = names(requested.drop_capabilities, "drop_capabilities")

    named = (added - {ALL}) | (set() if ALL in added | dropped else set(default))
    everything = ALL in added and ALL not in dropped
    wanted = (set(KNOWN) if everything else named) - dropped
    missing = sorted((wanted & named) - held)
    warnings = [f"capabilities not granted, since the daemon does not hold them: {', '.join(missing)}"] if missing else []
    return frozenset(wanted) & held, warnings


def sets(
    security: cri.LinuxContainerSecurityContext, bounding: frozenset[str], uid: int, *, inheritable: bool = False
) -> dict[str, list[str]]:
    """Return the OCI spec's `process.capabilities` for a process of user `uid`; with `inheritable` all may be inherited."""
    ambient = _ambient(security) & bounding
    effective = bounding if uid == 0 else ambient
    return {
        "bounding": _ordered(bounding),
        "effective": _ordered(effective),
        "permitted": _ordered(effective),
        "inheritable": _ordered(bounding if inheritable else ambient),
        "ambient": _ordered(ambient),
    }


def _ambient(security: cri.LinuxContainerSecurityContext) -> frozenset[str]:
    """Return the ambient capabilities asked for, without what is dropped."""
    if security.privileged:
        return frozenset()
    ambient = names(security.capabilities.add_ambient_capabilities, "add_ambient_capabilities")
    dropped = names(security.capabilities.drop_capabilities, "drop_capabilities")
    return frozenset(KNOWN if ALL in ambient else ambient) - dropped


def names(values: Iterable[str], field: str) -> set[str]:
    """Return canonical names (`CAP_X`, or ALL) for names with or without the prefix, in any case."""
    canonical = set()
    for value in values:
        name = value.upper()
        if name not in (ALL, "CAP_ALL"):
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in KNOWN:
                raise InvalidArgumentError(f"security_context.capabilities.{field}: unknown capability {value[:64]!r}")
        canonical.add(ALL if name == "CAP_ALL" else name)
    return canonical


def _ordered(names: Iterable[str]) -> list[str]:
    """Return `names` in the kernel's order, so that equal sets make equal specs."""
    chosen = set(names)
    return [name for name in KNOWN if name in chosen]
