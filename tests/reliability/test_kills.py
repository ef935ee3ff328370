"""SIGKILL to the daemon, at each of its steps and at any moment, under a mixed load; then nothing may be lost.

Each round starts a daemon that is to die at one step (`crid.trace`), or is killed after some time, on the directories of the
one before. The clients send again what was not answered. After each start, and before the clients go on, all that they were
told is compared with what the new daemon says, and with what is in the kernel and on the disk.

CRID_SEED gives another course than the last, CRID_KILLS the number of kills.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness import steps
from tests.harness.daemon import Daemon
from tests.harness.layers import artifact, write_layout
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import PATIENCE, eventually
from tests.reliability.coming_network import SUBNET, ComingNetwork
from tests.reliability.inspection import broken_promises, findings, start_check
from tests.reliability.ledger import Ledger
from tests.reliability.listener import Listener
from tests.reliability.load import HOST_PORTS, Load, settings
from tests.reliability.session import Session

pytestmark = pytest.mark.root

SEED = int(os.environ.get("CRID_SEED", "7"))
KILLS = int(os.environ.get("CRID_KILLS", "200"))
LONGEST = 1.5
"""Seconds after which a daemon without an armed step is killed, at the latest."""

NEEDS = {
    "undo": "pod: writing its record",
    "undo: container": "container: writing its record",
    "undo: removing the link to its log": "container: writing its record",
    "undo: pause process": "pod: placing its pause process",
    "container start: noting that it failed": "container start: starting its program",
    "container start: deleting what failed": "container start: starting its program",
    "container update: taking limits back": "container update: setting its limits",
}
"""Steps that come only after another one has failed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One end of a daemon: at a step, or after so many seconds."""

    step: str = ""
    after: float = 0.0

    def __str__(self) -> str:
        return self.step or f"after {self.after:.2f} s"

    def environment(self) -> dict[str, str]:
        """Return what arms the daemon."""
        if not self.step:
            return {}
        return {"CRID_TRACE_KILL": self.step, **({"CRID_TRACE_FAIL": failing} if (failing := self._needs()) else {})}

    def _needs(self) -> str:
        if self.step.startswith("undo:") and self.step not in NEEDS:
            of = next((word for word in ("container", "pause process") if word in self.step), "")
            return NEEDS[f"undo: {of}" if of else "undo"]
        return NEEDS.get(self.step, "")


def course(chance: random.Random) -> list[Kill]:
    """Return every step once and random moments, at least KILLS in all, in random order."""
    planned = [Kill(step=name) for name in steps.found()]
    planned += [Kill(after=chance.uniform(0, LONGEST)) for _ in range(max(0, KILLS - len(planned)))]
    chance.shuffle(planned)
    return planned


@pytest.fixture
def images(registry: LocalRegistry, tmp_path: Path) -> list[str]:
    """Two images that share a layer with each other, and an artifact, for pulls and removals."""
    names = []
    for number in range(2):
        layout = tmp_path / f"layout{number}"
        small_image.write_layout(layout, extra_files={"file": bytes([number]) * 300_000})
        names.append(registry.push(layout, f"test/pulled{number}:latest"))
    files = write_layout(tmp_path / "artifact", artifact(("model.bin", b"weights" * 1000)))
    return [*names, registry.push(files, "test/model:latest")]


@pytest.fixture
def node(registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node that has been used once, so that what is made once is there."""
    with Daemon(settings(registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        pod = node.pod()
        pod.printed("true")
        network = ComingNetwork(daemon)
        use(network, node)
        daemon.restart()  # the rules know of the other bridge now
        use(network, node)
        yield node
        network.remove()


def use(network: ComingNetwork, node: Node) -> None:
    """Have a pod in the network, with a host port: then the network's bridge is there, and the rules guard this machine
    against it until the next start of a daemon (`crid.net.ruleset`, localnet)."""
    network.come()
    eventually(lambda: ip_address(address_with_a_host_port(node)) in SUBNET, "the network is noticed")
    network.go()
    node.clean()


def address_with_a_host_port(node: Node) -> str:
    """Return the address that a pod with a host port gets. It is gone again."""
    config = node.pod_config()
    config.port_mappings.add(protocol=cri.TCP, host_port=HOST_PORTS[0], container_port=80)
    pod = node.cri.run_pod(config)
    address = node.cri.pod_status(pod).network.ip
    node.cri.stop_pod(pod)
    node.cri.remove_pod(pod)
    return address


def test_nothing_is_lost_whenever_the_daemon_dies(node: Node, images: list[str]) -> None:
    """Kill, start, compare; in the end everything is removed, and nothing is left."""
    chance = random.Random(SEED)
    before = node.daemon.footprint()
    session, ledger = Session(), Ledger()
    load = Load(node, session, ledger, images, SEED)
    listener = Listener(node.daemon.run_root / "nri.sock", ledger)
    run = Run(node.daemon, session, ledger, load.network)
    session.open(node.daemon.cri)
    load.start()
    listener.start()
    try:
        run.die(Kill(after=0.5))
        for kill in course(chance):
            run.round(kill, chance)
        run.start(None)
        load.finish()
        run.note_failures()
    finally:
        load.abandon()
        listener.end()
        print(
            f"seed {SEED}: {run}; {load.lives} lives, {session.asked} answers, {session.repeated} requests repeated; {listener}"
        )
    for name in images:
        node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=name)))
    node.clean()
    use(load.network, node)  # as before: whether the last daemon has had to guard against it is a matter of chance
    left = node.daemon.left_since(before, but="descriptors")  # another process
    assert run.broken == []
    assert listener.complaints == []
    assert listener.heard
    assert left == {}
    assert run.missed == []


class Run:
    """The daemons, one after the other."""

    def __init__(self, daemon: Daemon, session: Session, ledger: Ledger, network: ComingNetwork) -> None:
        self._daemon = daemon
        self._session = session
        self._ledger = ledger
        self._network = network
        self._last: Kill | None = None
        self.kills = 0
        self.missed: list[str] = []
        """Steps that were not reached."""

        self.broken: list[str] = []
        """What was not as it had to be, and the kill before. The run goes on, so that one run finds everything."""
        self._left: set[str] = set()

    def __str__(self) -> str:
        return f"{self.kills} kills, steps that were not reached: {self.missed}"

    def round(self, kill: Kill, chance: random.Random) -> None:
        """Start a daemon, compare, let the clients go on, and see it die."""
        time.sleep(chance.uniform(0, 0.1))
        if kill.step and not self.start(kill):
            self.kills += 1  # in its recovery
            self._last = kill
            kill = Kill(after=chance.uniform(0, LONGEST))
        if not self._daemon.running:
            self.start(None)
        self.die(kill)

    def start(self, kill: Kill | None) -> bool:
        """Start a daemon that is to die as `kill` says, and return whether it came to serve. Then let the clients go on."""
        if self._daemon.start_or_end(kill.environment() if kill else {}):
            complaints = self._complaints()
            if self._daemon.wait_ended(0) is None:
                self._note(complaints)
                self._session.open(self._daemon.cri)
                return True
        assert kill is not None, "a daemon was killed that nobody wanted to kill"
        return False

    def _complaints(self) -> list[str]:
        """Compare. A daemon may come to its step meanwhile, by what it does on its own; then the next one is compared."""
        checking = start_check(self._daemon)
        try:
            complaints = broken_promises(self._daemon, self._ledger, self._network, self._left)
        except grpc.RpcError:
            if self._daemon.wait_ended(PATIENCE) is None:
                raise
            complaints = []
        return complaints + findings(checking)

    def die(self, kill: Kill) -> None:
        """Wait until the daemon dies at its step, or kill it when it is time, and close the gate."""
        ended = self._daemon.wait_ended(5 * PATIENCE if kill.step else kill.after)  # some steps are rare
        if ended is None:
            if kill.step:
                self.missed.append(kill.step)
            self._daemon.kill()
        self._session.close()
        self._last = kill
        self.kills += 1
        self.note_failures()

    def note_failures(self) -> None:
        """Take over what went wrong in clients."""
        self._note([f"a client failed: {error!r}" for error in self._session.failures])
        self._session.failures.clear()

    def _note(self, complaints: list[str]) -> None:
        if complaints:
            self.broken.append("\n  ".join([f"after {self.kills} kills, the last {self._last}:", *complaints]))
            print(self.broken[-1], flush=True)
