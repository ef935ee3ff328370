"""What follows from the facts: which traces are leftovers, and what else is not as the records say. Pure.

An object is in one phase. The tables say which traces it may have there; the functions below them, which it must have. A
trace that its owner may not have, or that has no owner, is a leftover: nobody alive needs it.

    pod         READY     runs
                STOPPING  its stop was begun and not finished: it may still have everything
                STOPPED   stopped, or of an earlier boot of the machine
    container   LIVE      created, running or paused
                ENDED     ended, or of an earlier boot
"""

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from crid.lifecycle.check.facts import Facts, Kind, Trace
from crid.lifecycle.check.finding import Finding, Severity
from crid.lifecycle.check.network import network_findings
from crid.model.container import Container, ContainerMetadata, ContainerState
from crid.model.process import ProcessIdentity
from crid.model.sandbox import PodSandbox, SandboxMetadata


class Phase(enum.Enum):
    """Where an object is in its life, as far as it matters here."""

    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    LIVE = "live"
    ENDED = "ended"


_OF_PODS = frozenset(
    {
        *(Kind.RECORD, Kind.RUN, Kind.MOUNT, Kind.CGROUP, Kind.PAUSE),
        *(Kind.LINK, Kind.LEASE, Kind.ATTACHMENT, Kind.HOST_PORT),
    }
)
_OF_CONTAINERS = frozenset(
    {
        *(Kind.RECORD, Kind.RUN, Kind.MOUNT, Kind.CGROUP, Kind.SNAPSHOT, Kind.RUNTIME_STATE),
        *(Kind.MONITOR, Kind.NOTICE, Kind.SOCKET),
    }
)
MAY = {
    Phase.READY: _OF_PODS,
    Phase.STOPPING: _OF_PODS,
    Phase.STOPPED: frozenset({Kind.RECORD, Kind.RUN, Kind.CGROUP}),
    Phase.LIVE: _OF_CONTAINERS,
    Phase.ENDED: _OF_CONTAINERS,  # until it is removed: its files can be looked at, its monitor may still drain the output
}


def survives(metadata: SandboxMetadata | ContainerMetadata, boot: str) -> bool:
    """Whether what the record tells of can still be there in this boot of the machine.

    Records of version 1 do not say from which boot they are; there the run directory tells, which is then on a tmpfs.
    """
    if metadata.boot:
        return metadata.boot == boot
    return (metadata.run_directory if isinstance(metadata, SandboxMetadata) else metadata.bundle).exists()


def pod_phase(sandbox: PodSandbox, boot: str) -> Phase:
    """Return the phase of a pod."""
    if sandbox.status.network_released or not survives(sandbox.metadata, boot):
        return Phase.STOPPED
    return Phase.READY if sandbox.status.ready else Phase.STOPPING


def container_phase(container: Container, boot: str) -> Phase:
    """Return the phase of a container."""
    ended = container.status.state in (ContainerState.STOPPED, ContainerState.UNKNOWN)
    return Phase.ENDED if ended or not survives(container.metadata, boot) else Phase.LIVE


def leftovers(facts: Facts) -> list[Trace]:
    """Return the traces that nobody needs, those of containers before those of pods."""
    phases = {("pod", item.id): pod_phase(item, facts.boot) for item in facts.records.sandboxes}
    phases |= {("container", item.id): container_phase(item, facts.boot) for item in facts.records.containers}
    by_prefix = {identifier[:11] for of, identifier in phases if of == "pod"}

    def is_leftover(trace: Trace) -> bool:
        if trace.kind in (Kind.EXEC, Kind.COMMAND):
            return facts.daemon is None or trace.parent != facts.daemon
        if len(trace.owner) == 11:  # a link that is being made, or was when the daemon died
            return trace.owner not in by_prefix
        phase = phases.get((trace.of, trace.owner))
        return phase is None or trace.kind not in MAY[phase]

    return sorted(filter(is_leftover, facts.traces), key=lambda trace: (trace.of, trace.owner, trace.kind.value, trace.place))


def compare(facts: Facts) -> list[Finding]:
    """Return everything that is not as it should be, errors first."""
    found = [
        *_damaged(facts),
        *_pods(facts),
        *_containers(facts),
        *_names(facts),
        *network_findings(facts, [item for item in facts.records.sandboxes if pod_phase(item, facts.boot) is Phase.READY]),
        *_leftovers(facts),
        *_set_aside(facts),
    ]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _damaged(facts: Facts) -> Iterator[Finding]:
    for path, why in facts.records.damaged.items():
        yield Finding(Severity.ERROR, _kind(path), path.name, f"its record is damaged: {why}", repairable=True)
    for path, why in facts.records.copied.items():
        problem = f"its record is damaged, and known by its copy: {why}"
        yield Finding(Severity.ERROR, _kind(path), path.name, problem, repairable=True)


def _kind(path: Path) -> str:
    """Return what the object is whose state directory is `path`."""
    return path.parent.name.removesuffix("s")


def _set_aside(facts: Facts) -> Iterator[Finding]:
    for path in facts.records.set_aside:
        yield Finding(Severity.NOTICE, "node", str(path), "a damaged record was set aside here; remove it once you have looked")


def _leftovers(facts: Facts) -> Iterator[Finding]:
    damaged = {path.name for path in facts.records.damaged}
    for trace in leftovers(facts):
        if trace.owner not in damaged:  # said already, and all of it goes with the record
            problem = f"nobody needs its {trace.kind.value} {trace.place} any more"
            yield Finding(Severity.LEFTOVER, trace.of, trace.owner, problem, repairable=True)


class Held:
    """The traces by owner."""

    def __init__(self, traces: Iterable[Trace]) -> None:
        self._places: dict[tuple[str, Kind], set[str]] = defaultdict(set)
        for trace in traces:
            self._places[trace.owner, trace.kind].add(trace.place)

    def has(self, owner: str, kind: Kind, place: str = "") -> bool:
        """Whether `owner` has a trace of that kind, at `place` if that is given."""
        places = self._places.get((owner, kind), set())
        return place in places if place else bool(places)


def _pods(facts: Facts) -> Iterator[Finding]:
    held = Held(facts.traces)
    for sandbox in facts.records.sandboxes:
        phase = pod_phase(sandbox, facts.boot)
        if phase is Phase.STOPPING:
            yield Finding(Severity.NOTICE, "pod", sandbox.id, "its stop was begun and not finished", repairable=True)
        elif phase is Phase.STOPPED and sandbox.status.ready:
            yield Finding(
                Severity.ERROR, "pod", sandbox.id, "it is recorded as ready, but is of an earlier boot", repairable=True
            )
        elif phase is Phase.READY:
            for problem in missing_of_pod(sandbox, held, facts.alive):
                yield Finding(Severity.ERROR, "pod", sandbox.id, problem, repairable=True)


def missing_of_pod(sandbox: PodSandbox, held: Held, alive: frozenset[ProcessIdentity]) -> Iterator[str]:
    """Yield what a ready pod lacks without which no container can be made in it."""
    metadata = sandbox.metadata
    if not held.has(sandbox.id, Kind.RUN):
        yield f"its run directory {metadata.run_directory} is missing"
        return
    pins = metadata.namespaces
    for name, path in (("network", pins.net), ("IPC", pins.ipc), ("UTS", pins.uts), ("user", pins.user)):
        if path and not held.has(sandbox.id, Kind.MOUNT, path):
            yield f"its {name} namespace is not pinned at {path} any more"
    if pins.ipc and not held.has(sandbox.id, Kind.MOUNT, str(metadata.shm_path)):
        yield f"its shared memory is not mounted at {metadata.shm_path} any more"
    if metadata.pause is not None and metadata.pause not in alive:
        yield f"its pause process {metadata.pause.pid} is gone, and its PID namespace with it"


def _containers(facts: Facts) -> Iterator[Finding]:
    held = Held(facts.traces)
    pods = {item.id for item in facts.records.sandboxes}
    for container in facts.records.containers:
        pod = container.metadata.sandbox_id
        phase = container_phase(container, facts.boot)
        if pod not in pods:
            problems: Iterable[tuple[str, bool]] = [(f"its pod {pod} has no record", True)]
        elif phase is Phase.LIVE:
            problems = _live(container, held, facts)
        elif container.status.state is not ContainerState.STOPPED:
            problems = [("it is recorded as going on, but is of an earlier boot", True)]
        elif container.status.process in facts.alive and survives(container.metadata, facts.boot):
            problems = [(f"it is recorded as ended, but its process {_pid(container.status.process)} runs", True)]
        else:
            problems = []
        for problem, repairable in problems:
            yield Finding(Severity.ERROR, "container", container.id, problem, repairable, related=pod)


def _live(container: Container, held: Held, facts: Facts) -> Iterator[tuple[str, bool]]:
    """Yield what is wrong with a container that goes on, and whether a start of the daemon helps."""
    metadata, status = container.metadata, container.status
    if status.process not in facts.alive:
        if container.id in facts.reported:
            yield "it has ended, which is not recorded yet", True
        elif status.monitor in facts.alive:
            yield f"its process {_pid(status.process)} has ended, and its monitor has not reported it yet", False
        else:
            yield f"its process {_pid(status.process)} is gone, and nobody reported how it ended", True
        return
    if status.monitor not in facts.alive:
        yield f"it runs without its monitor {_pid(status.monitor)}: its output is lost, and its exit code will be", False
    for kind, place in (
        (Kind.RUN, metadata.bundle),
        (Kind.MOUNT, metadata.bundle / "rootfs"),
        (Kind.SNAPSHOT, None),
        (Kind.RUNTIME_STATE, None),
        (Kind.CGROUP, None),
    ):
        if not held.has(container.id, kind, str(place) if kind is Kind.MOUNT else ""):
            yield f"it runs, but its {kind.value}{f' {place}' if place else ''} is missing", False


def _pid(process: ProcessIdentity | None) -> str:
    return str(process.pid) if process else "(unknown)"


def _names(facts: Facts) -> Iterator[Finding]:
    for of, items in (("pod", facts.records.sandboxes), ("container", facts.records.containers)):
        owners: dict[str, str] = {}
        for item in items:
            other = owners.setdefault(item.metadata.name, item.id)
            if other != item.id:
                yield Finding(Severity.ERROR, of, item.id, f"its name {item.metadata.name} is that of {of} {other}, too")
