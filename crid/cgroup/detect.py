"""Which cgroups this host has."""

from pathlib import Path

from crid.cgroup.hierarchy import Hierarchy
from crid.cgroup.v1 import SYSTEMD, V1, mounted_controllers
from crid.cgroup.v2 import V2
from crid.errors import UnavailableError


def detect(root: Path = Path("/sys/fs/cgroup")) -> Hierarchy:
    """Return the hierarchy below `root`: v2 if it is the unified tree itself, else v1 if controllers are mounted in it.

    Raises UnavailableError if neither is there.
    """
    if (root / "cgroup.controllers").exists():
        return V2(root)
    mounts = mounted_controllers(root) if root.is_dir() else {}
    if mounts.keys() - {SYSTEMD}:
        return V1(mounts)
    raise UnavailableError(f"no cgroups are mounted at {root}")
