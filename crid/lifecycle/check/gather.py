"""Finding out the facts. Nothing is changed, and what is not ours is passed over: only what bears an id in the right place
counts, so a neighbour's container, whatever it is called, is never a trace.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crid.cgroup import naming
from crid.cgroup.hierarchy import Hierarchy
from crid.lifecycle.check.facts import Facts, Kind, Trace
from crid.lifecycle.check.processes import Programs, process_traces
from crid.linux import pid_namespace, process
from crid.linux.boot import boot_id
from crid.model import ids
from crid.model.sandbox import pause_report
from crid.net.inventory import Inventory
from crid.store.state import Found

_STATE_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Places:
    """Where a daemon's pods and containers leave traces."""

    root: Path
    run_root: Path
    runtime_roots: Mapping[str, Path]
    """The state directory of each runtime handler."""
    hierarchy: Hierarchy
    cgroup_parent: str
    """Below it are the cgroups of pods whose parent crid chose."""
    programs: Programs

    @property
    def exits(self) -> Path:
        """The exits directory."""
        return self.run_root / "exits"

    @property
    def attach(self) -> Path:
        """The directory of ways to attach sockets."""
        return self.run_root / "attach"


def gather(
    places: Places,
    records: Found,
    mounts: Iterable[str],
    *,
    daemon: int | None = None,
    network: Inventory | None = None,
) -> Facts:
    """Return the facts; `mounts` are the mount points below the run directory. Blocks for some milliseconds. Raises OSError."""
    containers, sandboxes = records.containers, records.sandboxes
    recorded = [item.status.process for item in containers] + [item.status.monitor for item in containers]
    recorded += [item.metadata.pause for item in sandboxes]
    exits = {item.id for item in containers if (item.metadata.persist_directory / "exit").exists()}
    found = [*local_traces(places, mounts), *_container_cgroups(places.hierarchy, records), *_of_network(network)]
    return Facts(
        boot=boot_id(),
        records=records,
        traces=tuple(found),
        alive=frozenset(item for item in recorded if item is not None and process.is_alive(item)),
        reported=frozenset(exits),
        daemon=daemon,
        maps_host_ports=network.maps_host_ports if network else True,
        network_known=network is not None,
    )


def local_traces(places: Places, mounts: Iterable[str]) -> list[Trace]:
    """Return all traces but those in the network. Raises OSError."""
    root, run_root = places.root, places.run_root
    return [
        *_named("pod", Kind.RECORD, root / "pods"),
        *_named("container", Kind.RECORD, root / "containers"),
        *_named("pod", Kind.RUN, run_root / "pods"),
        *_named("container", Kind.RUN, run_root / "containers"),
        *_named("container", Kind.SNAPSHOT, root / "snapshots"),
        *_named("container", Kind.NOTICE, places.exits),
        *_named("container", Kind.SOCKET, places.attach),
        *_runtime_states(places),
        *mount_traces(run_root, mounts),
        *process_traces(places.programs, run_root),
        *_pauses(run_root / "pods"),
        *_pod_cgroups(places),
    ]


def _named(of: str, kind: Kind, directory: Path) -> Iterator[Trace]:
    """Yield what in `directory` is called by an id, or begins so: the file that a monitor was writing."""
    for name in _names(directory):
        owner = name.lstrip(".").partition(".")[0] if kind is Kind.NOTICE else name
        if ids.is_id(owner):
            yield Trace(of, owner, kind, str(directory / name))


def _names(directory: Path) -> list[str]:
    """Return the names in `directory`, none if it is not there."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _runtime_states(places: Places) -> Iterator[Trace]:
    """Yield the runtimes' states. In a directory that others use, too, those that name a bundle of ours."""
    for directory in places.runtime_roots.values():
        ours = directory.is_relative_to(places.run_root)
        for trace in _named("container", Kind.RUNTIME_STATE, directory):
            if ours or _mentions(Path(trace.place), f"{places.run_root}/containers/{trace.owner}"):
                yield trace


def _mentions(directory: Path, words: str) -> bool:
    """Whether the state that crun (`status`) or runc (`state.json`) keeps in `directory` has `words` in it."""
    for name in ("status", "state.json"):
        try:
            with open(directory / name, "rb") as file:
                if words.encode() in file.read(_STATE_SIZE):
                    return True
        except OSError:
            continue
    return False


def mount_traces(run_root: Path, targets: Iterable[str]) -> Iterator[Trace]:
    """Yield the mounts of pods and containers among `targets`, as the kernel lists them: by real paths."""
    real = os.path.realpath(run_root)
    below = re.compile(re.escape(real) + r"/(pods|containers)/([0-9a-f]{64})(?:/.*)?")
    for target in targets:
        if match := below.fullmatch(target):
            yield Trace(match[1].removesuffix("s"), match[2], Kind.MOUNT, f"{run_root}{target[len(real) :]}")


def _pauses(directory: Path) -> Iterator[Trace]:
    for name in _names(directory):
        if ids.is_id(name) and (found := pid_namespace.reported(pause_report(directory / name, boot_id()))) is not None:
            yield Trace("pod", name, Kind.PAUSE, f"(process {found.pid})", found)


def _pod_cgroups(places: Places) -> Iterator[Trace]:
    seen = set()
    for directory in places.hierarchy.directories(naming.resolve(places.cgroup_parent)):
        for name in _names(Path(directory)):
            match = re.fullmatch(r"(?:.*-)?([0-9a-f]{64})(?:\.slice)?", name)
            if match and match[1] not in seen:
                seen.add(match[1])
                yield Trace("pod", match[1], Kind.CGROUP, f"{directory}/{name}")


def _container_cgroups(hierarchy: Hierarchy, records: Found) -> Iterator[Trace]:
    for container in records.containers:
        path = naming.resolve(container.metadata.cgroup_path)
        if path and hierarchy.exists(path):
            yield Trace("container", container.id, Kind.CGROUP, path)


def _of_network(network: Inventory | None) -> Iterator[Trace]:
    if network is None:
        return
    for link in network.links:
        yield Trace("pod", link.sandbox_id, Kind.LINK, link.name, addresses=tuple(map(str, link.addresses)))
    for sandbox_id, addresses in network.leases.items():
        shown = tuple(map(str, addresses))
        yield Trace("pod", sandbox_id, Kind.LEASE, ", ".join(shown), addresses=shown)
    for sandbox_id in network.attachments:
        yield Trace("pod", sandbox_id, Kind.ATTACHMENT, "in the cache of CNI attachments")
    for sandbox_id, port in network.ports:
        yield Trace("pod", sandbox_id, Kind.HOST_PORT, port)
