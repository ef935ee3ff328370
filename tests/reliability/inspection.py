"""What a daemon that was just started must know, and must not have around it, whatever became of the one before.

Nobody asks for anything meanwhile, so each promise of the ledger holds or is broken. Containers end by themselves at any
time: that is the only thing that moves.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from crid.cri import api_pb2 as cri
from tests.harness import footprint
from tests.harness.client import Cri
from tests.harness.daemon import CRID, Daemon
from tests.harness.tools import eventually
from tests.reliability.coming_network import ComingNetwork
from tests.reliability.ledger import KILLED, ContainerFacts, Ledger, PodFacts, Said
from tests.reliability.session import INJECTED

IDENTIFIER = re.compile(r"[0-9a-f]{64}")
OWN_CGROUPS = "crid"
"""What the cgroups are called below which crid makes those of pods for which the client named none; other daemons of
the machine have them, too."""


def broken_promises(daemon: Daemon, ledger: Ledger, network: ComingNetwork, known_leftovers: set[str]) -> list[str]:
    """Return everything that is not as the clients were told, or is left over and was not before."""
    client = daemon.cri
    pods = {item.id: item for item in client.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items}
    containers = {item.id: item for item in client.runtime.ListContainers(cri.ListContainersRequest()).containers}
    found = [*_pods(ledger, pods), *_containers(client, ledger, containers), *_images(client, ledger)]
    ready = [identifier for identifier, item in pods.items() if item.state == cri.SANDBOX_READY]
    found += network.problems({identifier: client.pod_status(identifier).network.ip for identifier in ready})
    known = pods.keys() | containers.keys()

    def new() -> set[str]:
        return set(leftovers(daemon, ledger, network, known)) - known_leftovers if daemon.running else set()

    left = lasting(new)
    known_leftovers.update(left)
    return found + [f"left over: {line}" for line in left]


def lasting(look: Callable[[], set[str]]) -> list[str]:
    """Return what `look` goes on to find: what a daemon is about to remove is waited for."""
    try:
        eventually(lambda: not look(), "nothing is left over")
    except AssertionError:
        return sorted(look())
    return []


def start_check(daemon: Daemon, *options: str) -> subprocess.Popen[str]:
    """Start `crid check` beside the daemon; it takes a while to start itself."""
    argv = [str(CRID), "--config", str(daemon.config), "check", *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def findings(checking: subprocess.Popen[str]) -> list[str]:
    """Return what `crid check` says once it has ended, nothing if all agrees."""
    said, _ = checking.communicate()
    return [f"crid check: {line}" for line in said.splitlines()] if checking.returncode else []


def _pods(ledger: Ledger, listed: dict[str, cri.PodSandbox]) -> Iterator[str]:
    strangers = dict(listed)
    for facts in ledger.pods:
        item = listed.get(facts.id) or next((item for item in listed.values() if _is_of(item, facts)), None)
        if item is None:
            if facts.id and facts.removed is Said.NO:
                yield f"pod {facts.id} is lost"
            continue
        strangers.pop(item.id, None)
        if facts.removed is Said.TOLD:
            yield f"pod {item.id} was removed and is there again"
        if facts.stopped is Said.TOLD and item.state == cri.SANDBOX_READY:
            yield f"pod {item.id} was stopped and is ready again"
        if facts.stopped is Said.NO and item.state != cri.SANDBOX_READY:
            yield f"pod {item.id} is not ready"
    yield from (f"pod {identifier} is a stranger" for identifier in strangers)


def _is_of(item: cri.PodSandbox, facts: PodFacts) -> bool:
    return not facts.id and item.metadata == facts.config.metadata


def _containers(client: Cri, ledger: Ledger, listed: dict[str, cri.Container]) -> Iterator[str]:
    strangers = dict(listed)
    for facts in ledger.containers:
        item = listed.get(facts.id)
        if item is None and not facts.id:
            item = next((item for item in listed.values() if item.metadata == facts.config.metadata), None)
        if item is None:
            if facts.id and not facts.may_be_gone:
                yield f"container {facts.id} is lost"
            continue
        strangers.pop(item.id, None)
        if facts.removed is Said.TOLD:
            yield f"container {item.id} was removed and is there again"
        else:
            yield from _container(client, facts, item.id)
    yield from (f"container {identifier} is a stranger" for identifier in strangers)


def _container(client: Cri, facts: ContainerFacts, identifier: str) -> Iterator[str]:
    """Compare state, exit code and log of one container."""
    status = client.status(identifier)
    where = f"container {identifier} ({cri.ContainerState.Name(status.state)}, {status.exit_code}, {status.reason})"
    if status.state == cri.CONTAINER_UNKNOWN:
        yield f"{where}: nobody knows its state"
    if facts.started is Said.NO and status.state not in (cri.CONTAINER_CREATED, cri.CONTAINER_EXITED):
        yield f"{where}: was never started"
    if facts.started is Said.TOLD and status.state == cri.CONTAINER_CREATED:
        yield f"{where}: was started"
    if status.state == cri.CONTAINER_EXITED:
        if status.exit_code not in facts.codes and INJECTED not in status.message:
            yield f"{where}: its exit code may be {facts.codes}"
        yield from (f"{where}: {complaint}" for complaint in log_complaints(facts, status.exit_code))
    elif status.state == cri.CONTAINER_RUNNING:
        yield from (f"{where}: {complaint}" for complaint in log_complaints(facts, None))


def log_complaints(facts: ContainerFacts, exit_code: int | None) -> Iterator[str]:
    """Say what is wrong with the log of a container that has ended with `exit_code`, or still runs."""
    texts = facts.texts()
    ends = texts[-1:] == ["end"]
    numbered = texts[:-1] if ends else texts
    if numbered != [f"line {number}" for number in range(len(numbered))]:
        gap = next(n for n, text in enumerate(numbered) if text != f"line {n}")
        yield f"log {facts.log}: line {gap} of {len(numbered)} is {numbered[gap]!r}"
    natural = exit_code is not None and exit_code in facts.codes - {KILLED} and facts.lines
    if natural and not ends:
        yield f"log {facts.log}: its end is missing after {len(numbered)} lines"
    if ends and exit_code == min(facts.codes) and len(numbered) != facts.lines and len(facts.codes) == 1:
        yield f"log {facts.log}: {len(numbered)} of {facts.lines} lines"


def _images(client: Cri, ledger: Ledger) -> Iterator[str]:
    for name, said in ledger.images.items():
        answer = client.image.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=name)))
        if said is Said.TOLD and not answer.HasField("image"):
            yield f"image {name} is lost"
        if said is Said.NO and answer.HasField("image"):
            yield f"image {name} was removed and is there again"


def leftovers(daemon: Daemon, ledger: Ledger, network: ComingNetwork, known: set[str]) -> list[str]:
    """Return whatever bears the id of a pod or a container of this daemon that it does not know."""
    seen = ledger.ids | known | set(IDENTIFIER.findall(daemon.log_text()))
    found = [*_named(daemon), *network.traces(), *(path for path in _own_cgroups() if set(IDENTIFIER.findall(path)) & seen)]
    return [line for line in found if not set(IDENTIFIER.findall(line)) <= known]


def _named(daemon: Daemon) -> Iterator[str]:
    """Yield all mounts, processes, files and cgroups of the instance that name a pod or a container."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {daemon.directory}/" in line:
            yield f"mount {line.split()[4]}"
    for process in footprint.processes(None, (daemon.directory,), daemon.cgroup):
        yield f"process {process}"
    for base in (daemon.root, daemon.run_root):
        for path in base.glob("*/*"):
            if path.parent.name not in ("layers", "images"):
                yield str(path)
    for path in daemon.pod_logs.glob("*/*.log"):
        yield f"link {path}"
    yield from footprint.cgroups(daemon.cgroup)


def _own_cgroups() -> Iterator[str]:
    names = {path.name for base in footprint.hierarchies() for path in base.iterdir() if path.name.startswith(OWN_CGROUPS)}
    for name in names:
        yield from footprint.cgroups(name)  # and what goes meanwhile is passed over
