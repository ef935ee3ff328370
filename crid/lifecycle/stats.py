"""Accounting for the stats RPCs: the kernel's readings, the writable layer's size, and CPU use since the last reading.

Readings are made in one worker thread for a whole list, since each is a handful of small files. The size of a writable
layer needs a walk of it, so it is kept for a while: a busy layer's figure may be up to DISK_MAX_AGE seconds old.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from crid.errors import CridError
from crid.lifecycle.parts import Parts
from crid.linux import disk
from crid.model.container import Container, ContainerState
from crid.model.sandbox import PodSandbox
from crid.model.stats import CgroupStats, usage_nano_cores

DISK_MAX_AGE = 10.0
"""Seconds for which a writable layer's size is reused."""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Size of a writable layer. `timestamp` is nanoseconds since the epoch."""

    timestamp: int
    used_bytes: int
    inodes: int
    mountpoint: str


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
        self._disk: dict[str, tuple[float, DiskUsage]] = {}

    async def containers(self, containers: Iterable[Container]) -> list[ContainerReading]:
        """Read the containers that run or are created; others have no accounting and are left out."""
        self._forget_removed()
        live = [container for container in containers if container.status.state is not ContainerState.STOPPED]
        return list(await asyncio.gather(*(self.container(container) for container in live)))

    async def container(self, container: Container) -> ContainerReading:
        """Read one container. What the kernel no longer has is None."""
        try:
            cgroup = await self._parts.runtime.of(container).stats(container)
        except CridError:
            cgroup = None
        nano_cores = self._rate(container.id, cgroup)
        usage = await asyncio.to_thread(self.disk_usage, container)
        return ContainerReading(container, cgroup, nano_cores, usage)

    async def sandboxes(self, sandboxes: Iterable[PodSandbox]) -> list[SandboxReading]:
        """Read pods with their containers."""
        return list(await asyncio.gather(*(self.sandbox(sandbox) for sandbox in sandboxes)))

    async def sandbox(self, sandbox: PodSandbox) -> SandboxReading:
        """Read one pod with its containers."""
        own = [item for item in self._parts.containers.list() if item.metadata.sandbox_id == sandbox.id]
        containers = await self.containers(own)
        cgroup, interfaces = await asyncio.to_thread(self._pod, sandbox)
        return SandboxReading(sandbox, cgroup, self._rate(sandbox.id, cgroup), interfaces, tuple(containers), time.time_ns())

    def _forget_removed(self) -> None:
        """Drop what is remembered of containers and pods that are no more."""
        known = {item.id for store in (self._parts.sandboxes, self._parts.containers) for item in store.list()}
        for identifier in (self._previous.keys() | self._disk.keys()) - known:
            self._previous.pop(identifier, None)
            self._disk.pop(identifier, None)

    def _rate(self, identifier: str, current: CgroupStats | None) -> int | None:
        if current is None:
            return None
        previous, self._previous[identifier] = self._previous.get(identifier), current
        return None if previous is None else usage_nano_cores(previous, current)

    def disk_usage(self, container: Container) -> DiskUsage | None:
        """Return the writable layer's size, perhaps a kept one; None if it is gone. Blocks while the layer is walked."""
        now = time.monotonic()
        kept = self._disk.get(container.id)
        if kept is not None and now - kept[0] < DISK_MAX_AGE:
            return kept[1]
        directory = str(self._parts.images.upper(container.id))
        try:
            used = disk.disk_usage(directory)
        except OSError:
            return None
        usage = DiskUsage(time.time_ns(), used.bytes, used.inodes, disk.mount_point_of(directory))
        self._disk[container.id] = (now, usage)
        return usage

    def _pod(self, sandbox: PodSandbox) -> tuple[CgroupStats | None, tuple[InterfaceReading, ...]]:
        try:
            cgroup = self._parts.cgroups.sandbox_stats(sandbox.metadata)
        except (CridError, OSError):
            cgroup = None
        return cgroup, self.interfaces(sandbox)

    def interfaces(self, sandbox: PodSandbox) -> tuple[InterfaceReading, ...]:
        """Read the pod's network interfaces; none of a pod in the host's network or a stopped one. Blocks."""
        path = sandbox.metadata.namespaces.net
        if not path or not sandbox.status.ready:
            return ()
        try:
            return parse_counters(self._parts.kernel.in_network_namespace(path, _read_counters))
        except OSError:
            return ()


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
