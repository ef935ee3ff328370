"""Everybody at once at the same few pods and containers, with verbs in no order that makes sense; in the end nothing is left.

Half of what is asked for is refused, which is right. What may not be: an object that is known by half, a name that is never
free again, a trace of something that was removed. CRID_SEED gives another course, CRID_REQUESTS the number of requests.
"""

import collections
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import DEADLINE
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.conftest import require_runtime
from tests.reliability.inspection import findings, start_check

pytestmark = pytest.mark.root

T = TypeVar("T")

SEED = int(os.environ.get("CRID_SEED", "7"))
REQUESTS = int(os.environ.get("CRID_REQUESTS", "1500"))
CLIENTS = 6
NAMES = 3
"""Of pods, and of containers in a pod: fewer than clients, so that they meet."""
PROGRAMS = ("exit 3", "sleep 1000000", "trap 'exit 7' TERM; while :; do sleep 0.05; done")


@pytest.fixture(params=["crun", "runc"])
def node(request: pytest.FixtureRequest, registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node that has been used once."""
    require_runtime(request.param)
    with Daemon(Settings(default_runtime=request.param, registries_conf=registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        node.pod().printed("true")
        node.clean()
        yield node


class Storm:
    """What clients ask for. Pods and containers are those that were made last, whether they are there still or not."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._runtime = node.cri.runtime
        self.configs = [node.pod_config(name=f"pod{number}") for number in range(NAMES)]
        self._pods: collections.deque[tuple[str, cri.PodSandboxConfig]] = collections.deque(maxlen=2 * NAMES)
        self._containers: collections.deque[str] = collections.deque(maxlen=4 * NAMES)
        self._lock = threading.Lock()
        self.answers: collections.Counter[str] = collections.Counter()

    def client(self, chance: random.Random) -> None:
        """Send one client's share of requests."""
        verbs: list[tuple[Callable[[random.Random], object], int]] = [
            (self.run_pod, 2),
            (self.create, 3),
            (self.on_container, 8),
            (self.on_pod, 1),
        ]
        chosen, weights = zip(*verbs, strict=True)
        for _ in range(REQUESTS // CLIENTS):
            try:
                chance.choices(chosen, weights)[0](chance)
            except grpc.RpcError as error:
                self.answers[error.code().name] += 1
            else:
                self.answers["OK"] += 1

    def run_pod(self, chance: random.Random) -> None:
        """Run one of the pods, which may be there."""
        config = chance.choice(self.configs)
        pod = self._node.cri.run_pod(config)
        with self._lock:
            self._pods.append((pod, config))

    def create(self, chance: random.Random) -> None:
        """Create a container in a pod, both of which may be there or not."""
        if (known := self._one_of(self._pods, chance)) is not None:
            pod, config = known
            made = self._node.container_config("sh", "-c", chance.choice(PROGRAMS), name=f"c{chance.randrange(NAMES)}")
            container = self._node.cri.create(pod, made, config)
            with self._lock:
                self._containers.append(container)

    def on_container(self, chance: random.Random) -> None:
        """Do something with a container."""
        container = self._one_of(self._containers, chance)
        if container is None:
            return
        runtime, words = self._runtime, ["sh", "-c", "sleep 0.1; echo here"]
        limits = cri.LinuxContainerResources(cpu_shares=chance.choice([100, 500]))
        requests: list[Callable[[], object]] = [
            lambda: runtime.StartContainer(cri.StartContainerRequest(container_id=container), timeout=DEADLINE),
            lambda: self._stop(container, chance.choice([0, 1, 2])).result(),
            lambda: self._cancelled(self._stop(container, 30), chance.uniform(0, 0.2)),
            lambda: runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=container), timeout=DEADLINE),
            lambda: runtime.ExecSync(cri.ExecSyncRequest(container_id=container, cmd=words, timeout=5), timeout=DEADLINE),
            lambda: runtime.UpdateContainerResources(
                cri.UpdateContainerResourcesRequest(container_id=container, linux=limits), timeout=DEADLINE
            ),
            lambda: runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True), timeout=DEADLINE),
            lambda: runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container), timeout=DEADLINE),
            lambda: runtime.ListPodSandboxStats(cri.ListPodSandboxStatsRequest(), timeout=DEADLINE),
        ]
        chance.choice(requests)()

    def on_pod(self, chance: random.Random) -> None:
        """Stop or remove a pod."""
        if (known := self._one_of(self._pods, chance)) is not None:
            if chance.random() < 0.5:
                self._runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=known[0]), timeout=DEADLINE)
            else:
                self._runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=known[0]), timeout=DEADLINE)

    def _stop(self, container: str, grace: int) -> "grpc.Future[cri.StopContainerResponse]":
        return self._runtime.StopContainer.future(
            cri.StopContainerRequest(container_id=container, timeout=grace), timeout=DEADLINE
        )

    @staticmethod
    def _cancelled(call: "grpc.Future[cri.StopContainerResponse]", after: float) -> None:
        time.sleep(after)
        call.cancel()

    def _one_of(self, known: "collections.deque[T]", chance: random.Random) -> "T | None":
        with self._lock:
            return chance.choice(known) if known else None


def test_nothing_is_left(node: Node) -> None:
    """`crid check` finds nothing before and after all is removed, every name is free, and the footprint is as before."""
    before = node.daemon.footprint()
    storm = Storm(node)
    with ThreadPoolExecutor(CLIENTS) as clients:
        for done in [clients.submit(storm.client, random.Random(SEED + number)) for number in range(CLIENTS)]:
            done.result()
    print(f"seed {SEED}: {dict(storm.answers)}")
    assert storm.answers["OK"] > REQUESTS / 10, storm.answers
    assert findings(start_check(node.daemon)) == []
    node.clean()
    for config in storm.configs:
        node.cri.run_pod(config)
    node.clean()
    assert node.daemon.left_since(before) == {}
    assert findings(start_check(node.daemon)) == []
