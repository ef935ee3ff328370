"""What the kernel's cgroup files say of a container or a pod, by the names of either version."""

import json
from pathlib import Path

from crid.cri import api_pb2 as cri
from tests.harness.node import Node

ROOT = Path("/sys/fs/cgroup")
UNIFIED = (ROOT / "cgroup.controllers").exists()


def pid_of(node: Node, container: str) -> int:
    """Return the host's number of the container's first process."""
    answer = node.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
    return int(json.loads(answer.info["info"])["pid"])


def path_of(pid: int, controller: str) -> str:
    """Return the cgroup of a process, in the tree of `controller`."""
    lines = (line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    paths = {name: path for names, path in lines for name in names.split(",")}
    return paths["" if UNIFIED else controller]


def read(path: str, controller: str, *, v1: str, v2: str) -> str:
    """Return the content of a control file of the cgroup `path`: `v1` or `v2`, whichever this host has."""
    tree = ROOT if UNIFIED else ROOT / controller
    return (tree / path.lstrip("/") / (v2 if UNIFIED else v1)).read_text().strip()


def memory_limit(path: str) -> str:
    """Return the memory limit of a cgroup in bytes."""
    return read(path, "memory", v1="memory.limit_in_bytes", v2="memory.max")
