"""What a daemon and its pods have left in the kernel and on disk, as sets that can be compared.

A test takes one `Footprint` before and one after; the difference must be empty. It counts what this mount and network
namespace shows, so it is exact where nobody else works in them: `scripts/test` runs the tests in namespaces of their own.
Processes and cgroups are those that name the instance's directories or lie below its own cgroup.
"""

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
POOLS = min(32, (os.cpu_count() or 1) + 4) + 16 + 16
"""How many threads the pools of asyncio's executor, of grpc and of crid itself (`crid.linux.threads`, as many as there are
clients at once) have at most: only more of them are a leak."""

MARK = re.compile(r"/layers/[0-9a-f]{64}/synced$")
"""What says that a layer's files are on the disk (`crid.store.layers`): it comes by itself, once the disk has taken all that
is to be written to it, and goes with its layer."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Everything counted; each item is a readable string, so that a difference explains itself."""

    mounts: Counter[str]
    links: Counter[str]
    addresses: Counter[str]
    firewall: Counter[str]
    processes: Counter[str]
    threads: Counter[str]
    descriptors: Counter[str]
    files: Counter[str]
    cgroups: Counter[str]

    def new_since(self, before: "Footprint") -> dict[str, list[str]]:
        """Return what is here and was not in `before`, by kind; empty if nothing was left behind."""
        added = {
            field.name: sorted((getattr(self, field.name) - getattr(before, field.name)).elements()) for field in fields(self)
        }
        if self.threads.total() <= POOLS:
            added["threads"] = []
        return {kind: items for kind, items in added.items() if items}


def take(*, daemon: int | None, directories: tuple[Path, ...], cgroup: str) -> Footprint:
    """Count now. `daemon` is the pid whose descriptors and children count, None once it is gone; `directories` are the
    instance's own; `cgroup` is the path of the cgroup below which all of its containers live."""
    return Footprint(
        mounts=Counter(_mounts()),
        links=Counter(_links()),
        addresses=Counter(_addresses()),
        firewall=Counter(_firewall()),
        processes=Counter(processes(daemon, directories, cgroup)),
        threads=Counter(_threads(daemon) if daemon else ()),
        descriptors=Counter(_descriptors(daemon) if daemon else ()),
        files=Counter(_files(directories)),
        cgroups=Counter(cgroups(cgroup)),
    )


def _mounts() -> list[str]:
    """Mount points with the type of what is mounted: pinned namespaces are those of type nsfs."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        found.append(f"{tail.split()[0]} on {head.split()[4]}")
    return found


def _ip(*words: str) -> list[dict[str, object]]:
    output = subprocess.run(["ip", "-json", *words], check=True, capture_output=True, text=True).stdout
    parsed: list[dict[str, object]] = json.loads(output or "[]")
    return parsed


def _links() -> list[str]:
    return [str(link["ifname"]) for link in _ip("link", "show")]


def _addresses() -> list[str]:
    found = []
    for link in _ip("-4", "address", "show"):
        details = link.get("addr_info")
        assert isinstance(details, list)
        found += [f"{detail['local']} on {link['ifname']}" for detail in details]
    return found


def _firewall() -> list[str]:
    """Every table, chain and rule, and every set with its elements in order: the kernel has them in none. Counters and handles
    are left out by nft itself."""
    listing = subprocess.run(["nft", "--stateless", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    listing = re.sub(r"elements = \{([^}]*)\}", lambda found: f"elements = {_in_order(found[1])}", listing)
    return [line.strip() for line in listing.splitlines() if line.strip() not in ("", "}")]


def _in_order(elements: str) -> list[str]:
    return sorted(element.strip() for element in elements.split(","))


def processes(daemon: int | None, directories: tuple[Path, ...], cgroup: str) -> list[str]:
    """Processes, zombies too, that are the daemon's children, name its directories or live in its cgroups."""
    words = [str(directory).encode() for directory in directories]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (daemon, os.getpid()):
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            member = f":/{cgroup.strip('/')}/" in (entry / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if member or (daemon and parent == daemon) or any(word in command for word in words):
            found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
    return found


def _descriptors(pid: int) -> list[str]:
    """What the daemon has open, but for what comes and goes by itself: the sockets of clients, and the pidfds of processes that
    live. The daemon begins to watch a container when it next looks at all of them, within ten seconds of its creation."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
            alive = target == "anon_inode:[pidfd]" and _lives(pid, entry.name)
        except FileNotFoundError:
            continue
        kind = re.sub(r":\[[0-9]+\]$", "", target)
        if kind != "socket" and not alive:
            found.append(kind)
    return found


def _lives(pid: int, pidfd: str) -> bool:
    """Whether the process of a pidfd that `pid` holds is not yet reaped: it has a number then (pidfd_open(2))."""
    return "\nPid:\t-1\n" not in Path(f"/proc/{pid}/fdinfo/{pidfd}").read_text()


def _threads(pid: int) -> list[str]:
    """The daemon's threads by name; those of pools come and go by themselves, up to a limit of theirs."""
    found = []
    for entry in Path(f"/proc/{pid}/task").iterdir():
        try:
            found.append((entry / "comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):  # before it was opened, or after
            continue
    return found


def _files(directories: tuple[Path, ...]) -> list[str]:
    """Everything below `directories`, but for the marks of layers that are on the disk."""
    found = [
        os.path.join(parent, name)  # noqa: PTH118  # thousands of them; os.walk passes over what goes meanwhile
        for directory in directories
        for parent, below, files in os.walk(directory)
        for name in (*below, *files)
    ]
    return [path for path in found if not MARK.search(path)]


def cgroups(cgroup: str) -> list[str]:
    """Return the directories below a cgroup in any hierarchy: cgroup v2 has one, v1 one a controller."""
    return [
        os.path.join(parent, name)  # noqa: PTH118  # thousands of them; os.walk passes over what goes meanwhile
        for base in hierarchies()
        for parent, names, _ in os.walk(base / cgroup.strip("/"))
        for name in names
    ]


def hierarchies() -> list[Path]:
    """Return the mounted cgroup hierarchies: on v1 each controller has one, and aliases are links."""
    if (CGROUP_ROOT / "cgroup.procs").exists():
        return [CGROUP_ROOT]
    return [path for path in CGROUP_ROOT.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists()]


def remove_children(cgroup: str) -> None:
    """Remove the cgroups right below `cgroup`, as a kubelet does with those of its pods once crid has removed the pods.

    Raises OSError for one that is not empty: whoever made a cgroup below it has left it behind. Slices are systemd's, where
    it knows the hierarchy.
    """
    if cgroup.endswith(".slice"):
        subprocess.run(["systemctl", "stop", cgroup], check=True)
    for base in hierarchies():
        top = base / cgroup.strip("/")
        for path in [path for path in top.iterdir() if path.is_dir()] if top.is_dir() else []:
            path.rmdir()


def remove_cgroup(cgroup: str) -> None:
    """Remove `cgroup` and everything below it, in every hierarchy. Raises OSError if a process is left in one."""
    if cgroup.endswith(".slice"):
        remove_children(cgroup)
    for base in hierarchies():
        top = base / cgroup.strip("/")
        below = [path for path in top.rglob("*") if path.is_dir()] if top.is_dir() else []
        for path in sorted(below, key=lambda path: len(path.parts), reverse=True):
            path.rmdir()
        if top.is_dir():
            top.rmdir()
