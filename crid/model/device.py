"""A device node of the host, as found there and as given to a container."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """A device node. `path` is absolute; `kind` is the OCI spec's letter: c, b or p; `mode` holds the permission bits only."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
