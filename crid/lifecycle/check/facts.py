"""What is known of the host, as pure data: the records, and every trace of a pod or a container that bears its id.

Things without an id of ours are nobody's here: they are never looked at, so never removed.
"""

import enum
from dataclasses import dataclass

from crid.model.process import ProcessIdentity
from crid.store.state import Found


class Kind(enum.Enum):
    """What a pod or a container can leave on the host; the value is what a finding calls it."""

    RECORD = "state directory"
    RUN = "run directory"
    MOUNT = "mount"
    CGROUP = "cgroup"
    COMMAND = "command of a daemon that is gone"
    """A short call of a runtime or of crid's own programs, which ends by itself."""
    PAUSE = "pause process"
    LINK = "link"
    LEASE = "address"
    ATTACHMENT = "attachment to a CNI network"
    HOST_PORT = "host port"
    SNAPSHOT = "snapshot"
    RUNTIME_STATE = "state of the OCI runtime"
    MONITOR = "monitor"
    EXEC = "command inside"
    """The runtime or the monitor of an exec, on the host."""
    NOTICE = "notice of its end"
    SOCKET = "way to the attach socket"


@dataclass(frozen=True, slots=True)
class Trace:
    """Something on the host that bears the id of a pod or a container."""

    of: str
    """`pod` or `container`."""
    owner: str
    """The id; of a link that a crash left without an alias only its first 11 digits."""
    kind: Kind
    place: str
    """Where a person finds it: a path, a name, an address."""
    process: ProcessIdentity | None = None
    parent: int = 0
    """The process's parent."""
    addresses: tuple[str, ...] = ()
    """Of a link or a lease."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The host at one moment."""

    boot: str
    records: Found
    traces: tuple[Trace, ...]
    alive: frozenset[ProcessIdentity] = frozenset()
    """The recorded processes that are alive."""
    reported: frozenset[str] = frozenset()
    """The containers whose monitors wrote down how they ended."""
    daemon: int | None = None
    """The daemon's pid, None if none runs."""
    maps_host_ports: bool = True
    network_known: bool = False
    """Whether links, addresses and host ports were looked at."""
