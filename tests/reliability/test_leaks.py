"""Pods come and go, several at a time, and after many of them the daemon and the machine are as they were.

A cycle is a whole pod: run, a container created and started, commands in it with and without streams, statistics, stop,
removal. Some cycles first, so that what is made once is made; then everything is counted before and after. CRID_CYCLES is
the number of cycles in between.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.daemon import Daemon, Settings
from tests.harness.footprint import Footprint
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.stream_clients import SpdyCommand
from tests.harness.stream_node import exec_url
from tests.harness.tools import eventually

pytestmark = pytest.mark.root

CYCLES = int(os.environ.get("CRID_CYCLES", "80"))
WARM_UP = 40
BATCH = 20
AT_ONCE = 4
GROWTH = 16 * 1024
"""Bytes a cycle by which the daemon's memory may seem to grow: the allocator's noise. One pod's records alone are more."""


@pytest.fixture
def node(registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node whose daemon lives as long as the test."""
    with Daemon(Settings(registries_conf=registry.registries_conf())) as daemon:
        yield Node(daemon, daemon.cri.pull(image))


def test_pods_come_and_go_and_nothing_is_left(node: Node) -> None:
    """Descriptors, processes, zombies, threads, mounts, links, addresses, rules, cgroups, files, memory."""
    with ThreadPoolExecutor(AT_ONCE) as clients:
        run_cycles(node, WARM_UP, clients)
        before = settled(node)
        memory = [resident(node.daemon.pid)]
        for _ in range(CYCLES // BATCH):
            run_cycles(node, BATCH, clients)
            memory.append(resident(node.daemon.pid))
    with contextlib.suppress(AssertionError):  # what is left says more than that something is
        eventually(lambda: settled(node).new_since(before) == {}, "everything is as it was")
    assert settled(node).new_since(before) == {}
    slope = steepness(memory) / BATCH
    print(f"{CYCLES} cycles: {memory[0] >> 10} KiB, then {memory[-1] >> 10} KiB, {slope / 1024:+.1f} KiB a cycle: {memory}")
    assert slope < GROWTH, memory


def run_cycles(node: Node, number: int, clients: ThreadPoolExecutor) -> None:
    """Run so many cycles, AT_ONCE at a time."""
    list(clients.map(lambda _: cycle(node), range(number)))


def cycle(node: Node) -> None:
    """One pod from its start to its removal."""
    pod = node.pod()
    container = pod.sleeper()
    word = str(random.random())
    assert node.cri.output(container, "echo", word) == word
    with SpdyCommand(exec_url(node, container, "echo", word), ["stdout", "stderr"]) as command:
        assert command.result().stdout == f"{word}\n".encode()
    node.cri.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container))
    node.cri.stop(container)
    node.cri.remove(container)
    node.cri.stop_pod(pod.id)
    node.cri.remove_pod(pod.id)


def settled(node: Node) -> Footprint:
    """Count, once the pods' own cgroups, which are the client's, are gone."""
    node.clean()
    return node.daemon.footprint()


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has for itself."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no Private_Dirty")


def steepness(values: list[int]) -> float:
    """Return the slope of the line that fits `values` best (Theil and Sen: the median of the slopes of all pairs)."""
    pairs = [(second - first) / (j - i) for i, first in enumerate(values) for j, second in enumerate(values) if j > i]
    return sorted(pairs)[len(pairs) // 2]
