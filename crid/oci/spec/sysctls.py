"""Which sysctls a pod may set, and when: those that the kernel keeps for each namespace, in namespaces of the pod's own.

Any other would change the host under all pods. The list is that of the kubelet and of the OCI runtimes (ipc_namespaces(7),
network_namespaces(7), uts_namespaces(7)); the hostname is not among them, since PodSandboxConfig has a field for it.
"""

from collections.abc import Mapping

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.idmap import IdMap

_IPC_NAMES = frozenset(
    f"kernel.{name}"
    for name in (
        "auto_msgmni",
        "msg_next_id",
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "sem_next_id",
        "shm_next_id",
        "shm_rmid_forced",
        "shmall",
        "shmmax",
        "shmmni",
    )
)
_PING_GROUPS = ["net", "ipv4", "ping_group_range"]
_UTS_NAMES = frozenset({"kernel.domainname"})


def check(sysctls: Mapping[str, str], options: cri.NamespaceOption) -> None:
    """Refuse sysctls that the pod with these namespace options may not set. Raises InvalidArgumentError naming the first."""
    for name in sorted(sysctls):
        _check(name, options)
        if "\0" in sysctls[name] or "\n" in sysctls[name]:
            raise InvalidArgumentError(f"linux.sysctls: the value of {name} holds a NUL or a line feed")


def with_defaults(asked: Mapping[str, str], defaults: Mapping[str, str], options: cri.NamespaceOption) -> dict[str, str]:
    """Return what the pod asks for on top of the configuration's `defaults`, as far as it has its own namespaces."""
    kept = {}
    for name, value in defaults.items():
        try:
            _check(name, options)
        except InvalidArgumentError:
            continue
        kept[name] = value
    return {**kept, **asked}


def within(sysctls: Mapping[str, str], idmap: IdMap) -> dict[str, str]:
    """Return `sysctls` for a pod whose user namespace has the map `idmap`.

    Who may send pings is a range of groups, which the kernel takes only if its ends are mapped (icmp(7)); most ask for
    all there could be, 0 to 2147483647. They get those there are, as in CRI-O.
    """
    fitted = dict(sysctls)
    for name, value in sysctls.items():
        ends = value.split()
        if _parts(name) == _PING_GROUPS and len(ends) == 2 and all(end.isascii() and end.isdecimal() for end in ends):
            first, last = map(int, ends)
            mapped = [min(last, each.inside + each.length - 1) for each in idmap.groups.ranges if each.inside <= last]
            if mapped and first <= max(mapped) < last:
                fitted[name] = f"{first} {max(mapped)}"
    return fitted


def _check(name: str, options: cri.NamespaceOption) -> None:
    field = f"linux.sysctls: {name[:128]!r}"
    parts = _parts(name)
    if len(parts) < 2 or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise InvalidArgumentError(f"{field} is not the name of a sysctl")
    if parts[:2] == ["fs", "mqueue"] or ".".join(parts) in _IPC_NAMES:
        kind, mode = "ipc", options.ipc
    elif parts[0] == "net" or ".".join(parts) in _UTS_NAMES:
        kind, mode = "network", options.network  # the UTS namespace goes with the network's: CRI, NamespaceOption
    else:
        raise InvalidArgumentError(f"{field} is not one that a pod may set: the kernel keeps it for the whole host")
    if mode == cri.NamespaceMode.NODE:
        raise InvalidArgumentError(f"{field} cannot be set in a pod with the host's {kind} namespace")


def _parts(name: str) -> list[str]:
    """Return the file's path below /proc/sys by sysctl(8)'s rule: whichever of `.` and `/` comes first separates, and the
    other one stands for it within a part."""
    dot, slash = name.find("."), name.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        name = name.translate(str.maketrans("./", "/."))
    return name.split("/")
