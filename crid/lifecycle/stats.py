"""Accounting for the stats RPCs: the kernel's readings, the writable layer's size, and CPU use since the last reading.

Readings are made on one worker thread for a whole list, since each is a handful of small files.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crid.errors import CridError
from crid.lifecycle.layer_sizes import DiskUsage, LayerSizes
from crid.lifecycle.parts import Parts
from crid.model.container import Container, ContainerState
from crid.model.sandbox import PodSandbox
from crid.model.stats import CgroupStats, usage_nano_cores


@dataclass(frozen=True, slots=True)
class ContainerReading:
    """One container's accounting. `nano_cores` needs two readings, so the first one has none."""

    container: Container
    cgroup: CgroupStats | None
    nano_cores: int | None
    disk: DiskUsage | None


@dataclass(frozen=True, slots=True)
class InterfaceReading:
    """One network interface's counters: bytes, packets, those with errors and those dropped."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int
    rx_packets: int = 0
    rx_dropped: int = 0
    tx_packets: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class SandboxReading:
    """One pod's accounting: its containers', its cgroup's and its network's."""

    sandbox: PodSandbox
    cgroup: CgroupStats | None
    nano_cores: int | None
    interfaces: tuple[InterfaceReading, ...]
    containers: tuple[ContainerReading, ...]
    timestamp: int


class Stats:
    """Reads accounting on demand and remembers what rates need."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._previous: dict[str, CgroupStats] = {}
        self.layer_sizes = LayerSizes(parts.supervisor, parts.images.upper)

    def close(self) -> None:
        """Give up what is still being measured."""
        self.layer_sizes.close()

    async def containers(self, containers: Iterable[Container]) -> list[ContainerReading]:
        """Read the containers that run or are created; others have no accounting and are left out."""
        return await self._read([item for item in containers if item.status.state is not ContainerState.STOPPED])

    async def container(self, container: Container) -> ContainerReading:
        """Read one container. What the kernel no longer has is None."""
        (reading,) = await self._read([container])
        return reading

    async def sandboxes(self, sandboxes: Iterable[PodSandbox]) -> list[SandboxReading]:
        """Read pods with their containers."""
        pods = list(sandboxes)
        own: dict[str, list[ContainerReading]] = {pod.id: [] for pod in pods}
        in_them = [item for item in self._parts.containers.list() if item.metadata.sandbox_id in own]
        for reading in await self.containers(in_them):
            own[reading.container.metadata.sandbox_id].append(reading)
        now = time.time_ns()
        facts = await asyncio.to_thread(self._pods, pods)
        return [
            SandboxReading(pod, cgroup, self._rate(pod.id, cgroup), interfaces, tuple(own[pod.id]), now)
            for pod, (cgroup, interfaces) in zip(pods, facts, strict=True)
        ]

    async def sandbox(self, sandbox: PodSandbox) -> SandboxReading:
        """Read one pod with its containers."""
        (reading,) = await self.sandboxes([sandbox])
        return reading

    async def _read(self, containers: Sequence[Container]) -> list[ContainerReading]:
        self._forget_removed()
        sizes = await self.layer_sizes.of(container.id for container in containers)
        facts = await asyncio.to_thread(lambda: [self.cgroup(container) for container in containers])
        return [
            ContainerReading(container, cgroup, self._rate(container.id, cgroup), sizes[container.id])
            for container, cgroup in zip(containers, facts, strict=True)
        ]

    def _forget_removed(self) -> None:
        """Drop what is remembered of containers and pods that are no more."""
        known = {item.id for store in (self._parts.sandboxes, self._parts.containers) for item in store.list()}
        for identifier in self._previous.keys() - known:
            del self._previous[identifier]
        self.layer_sizes.keep_only(known)

    def _rate(self, identifier: str, current: CgroupStats | None) -> int | None:
        if current is None:
            return None
        previous, self._previous[identifier] = self._previous.get(identifier), current
        return None if previous is None else usage_nano_cores(previous, current)

    def cgroup(self, container: Container) -> CgroupStats | None:
        """Read the accounting of the container's cgroup; None if there is none, as right after its end. Blocks."""
        try:
            return self._parts.runtime.of(container).stats(container)
        except (CridError, OSError):
            return None

    def _pods(self, pods: Sequence[PodSandbox]) -> list[tuple[CgroupStats | None, tuple[InterfaceReading, ...]]]:
        interfaces = self.interfaces(pods)
        return [(self._pod_cgroup(pod), interfaces.get(pod.id, ())) for pod in pods]

    def _pod_cgroup(self, sandbox: PodSandbox) -> CgroupStats | None:
        try:
            return self._parts.cgroups.sandbox_stats(sandbox.metadata)
        except (CridError, OSError):
            return None

    def interfaces(self, sandboxes: Iterable[PodSandbox]) -> dict[str, tuple[InterfaceReading, ...]]:
        """Read the network interfaces of pods, by pod; left out are stopped pods and those in the host's network. Blocks."""
        paths = {pod.id: pod.metadata.namespaces.net for pod in sandboxes if pod.status.ready and pod.metadata.namespaces.net}
        read = self._parts.kernel.in_network_namespaces(paths.values(), _read_counters) if paths else []
        return {pod: parse_counters(counters) for pod, counters in zip(paths, read, strict=True) if isinstance(counters, str)}


def _read_counters() -> str:
    with open("/proc/thread-self/net/dev", encoding="ascii") as file:
        return file.read()


def parse_counters(text: str) -> tuple[InterfaceReading, ...]:
    """Parse /proc/net/dev (proc_pid_net(5)): two lines of headings, then eight receive and eight transmit counters; `lo` is
    left out."""
    readings = []
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(":")
        values = [int(word) for word in counters.split()]
        if name.strip() != "lo" and len(values) >= 12:
            received, sent = values[:4], values[8:12]
            readings.append(
                InterfaceReading(
                    name=name.strip(),
                    rx_bytes=received[0],
                    rx_packets=received[1],
                    rx_errors=received[2],
                    rx_dropped=received[3],
                    tx_bytes=sent[0],
                    tx_packets=sent[1],
                    tx_errors=sent[2],
                    tx_dropped=sent[3],
                )
            )
    return tuple(readings)
