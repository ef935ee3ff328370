"""The samples of ListPodSandboxMetrics: what the kubelet serves at /metrics/cadvisor in cAdvisor's stead (KEP-2371).

`crid.lifecycle.metrics_table` says what each series is and where its value comes from; here the figures are read, of the
groups that the configuration includes and no others, and labelled. A figure that the kernel does not give has no sample.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from crid.cgroup import naming
from crid.lifecycle.layer_sizes import DiskUsage
from crid.lifecycle.metrics_table import (
    CONTAINER_SERIES,
    POD_SERIES,
    ContainerFigures,
    DiskFigures,
    ProcessFigures,
    Series,
)
from crid.lifecycle.parts import Parts
from crid.lifecycle.stats import InterfaceReading, Stats
from crid.linux.devices import block_device_path
from crid.linux.process_usage import open_files_limit, process_usage
from crid.model.container import Container, ContainerState
from crid.model.sandbox import PodSandbox

T = TypeVar("T")
Sizes = Mapping[str, DiskUsage | None]

BASE_LABELS = ("id", "name", "image", "namespace", "pod", "container")
"""Labels of every series, as the kubelet gives them to cAdvisor's: `id` is the cgroup, `name` the runtime's own identifier."""

POD_CONTAINER = "POD"
"""The value of `container` in a pod's own samples."""


@dataclass(frozen=True, slots=True)
class Described:
    """A series as clients are told of it; `label_keys` are BASE_LABELS and its own."""

    name: str
    help: str
    label_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """One value of a series; `labels` are in the order of its keys, `timestamp` is 0 or when an old value was measured."""

    name: str
    counter: bool
    labels: tuple[str, ...]
    value: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class PodMetrics:
    """One pod's samples, and those of its containers by id."""

    sandbox_id: str
    own: tuple[LabelledSample, ...]
    containers: dict[str, tuple[LabelledSample, ...]]


class Metrics:
    """Reads the figures of the included `groups` and makes samples of them."""

    def __init__(self, parts: Parts, stats: Stats, groups: frozenset[str]) -> None:
        self._parts = parts
        self._stats = stats
        self._groups = groups
        self._container_series = [series for series in CONTAINER_SERIES if not series.group or series.group in groups]
        self._pod_series = [series for series in POD_SERIES if series.group in groups]

    def described(self) -> list[Described]:
        """Return the included series. They stay the same for the life of the daemon."""
        return [*map(_described, self._container_series), *map(_described, self._pod_series)]

    async def pods(self) -> list[PodMetrics]:
        """Read all pods that are ready."""
        ready = [sandbox for sandbox in self._parts.sandboxes.list() if sandbox.status.ready]
        own: dict[str, list[Container]] = {sandbox.id: [] for sandbox in ready}
        for container in self._parts.containers.list():
            if container.metadata.sandbox_id in own and container.status.state is not ContainerState.STOPPED:
                own[container.metadata.sandbox_id].append(container)
        running = [container for containers in own.values() for container in containers]
        sizes = await self._stats.layer_sizes.of(item.id for item in running) if "disk" in self._groups else {}
        return await asyncio.to_thread(self._read, own, ready, sizes)

    def _read(self, own: Mapping[str, list[Container]], pods: list[PodSandbox], sizes: Sizes) -> list[PodMetrics]:
        interfaces = self._stats.interfaces(pods) if self._pod_series else {}
        return [self._pod(pod, own[pod.id], interfaces.get(pod.id, ()), sizes) for pod in pods]

    def _pod(
        self, sandbox: PodSandbox, containers: list[Container], interfaces: tuple[InterfaceReading, ...], sizes: Sizes
    ) -> PodMetrics:
        metadata = sandbox.metadata.config.metadata
        pod_labels = (metadata.namespace, metadata.name)
        samples: tuple[LabelledSample, ...] = ()
        if self._pod_series:
            labels = (_cgroup(sandbox.metadata.cgroup_parent), sandbox.id, "", *pod_labels, POD_CONTAINER)
            samples = tuple(_samples(self._pod_series, interfaces, labels))
        each = {item.id: self._container(item, pod_labels, sizes.get(item.id)) for item in containers}
        return PodMetrics(sandbox.id, samples, each)

    def _container(
        self, container: Container, pod_labels: tuple[str, str], size: DiskUsage | None
    ) -> tuple[LabelledSample, ...]:
        cgroup = self._stats.cgroup(container)
        figures = ContainerFigures(
            now=time.time_ns(),
            started_at=container.status.started_at,
            resources=container.status.resources or container.metadata.config.linux.resources,
            cgroup=cgroup,
        )
        if cgroup is not None:
            figures = self._complete(container, figures, size)
        config = container.metadata.config
        image = config.image.user_specified_image or config.image.image
        labels = (_cgroup(container.metadata.cgroup_path), container.id, image, *pod_labels, config.metadata.name)
        return tuple(_samples(self._container_series, figures, labels))

    def _complete(self, container: Container, figures: ContainerFigures, size: DiskUsage | None) -> ContainerFigures:
        """Add what is not in the accounting of its cgroup's controllers, or costs more to read."""
        hierarchy, path = self._parts.cgroups.hierarchy, naming.resolve(container.metadata.cgroup_path)
        if "diskIO" in self._groups:
            usages = hierarchy.device_usage(path)
            figures.devices = [(block_device_path(usage.major, usage.minor), usage) for usage in usages]
        if "hugetlb" in self._groups:
            figures.hugepages = hierarchy.hugepage_usage(path)
        if "process" in self._groups:
            pids = hierarchy.processes(path)
            process = container.status.process
            limit = open_files_limit(process.pid) if process is not None and process.pid in pids else None
            figures.process = ProcessFigures(process_usage(pids), limit)
        if "disk" in self._groups:
            figures.disk = self._disk(container, size)
        return figures

    def _disk(self, container: Container, usage: DiskUsage | None) -> DiskFigures | None:
        directory = self._parts.images.upper(container.id)
        try:
            room, device = os.statvfs(directory), directory.stat().st_dev
        except OSError:
            return None
        return DiskFigures(
            device=block_device_path(os.major(device), os.minor(device)),
            used_bytes=usage.used_bytes if usage else None,
            measured_at=usage.timestamp if usage else 0,
            limit_bytes=room.f_blocks * room.f_frsize,
            inodes=room.f_files,
            inodes_free=room.f_ffree,
        )


def _cgroup(path: str) -> str:
    return f"/{naming.resolve(path)}"


def _described(series: Series[T]) -> Described:
    return Described(series.name, series.help, BASE_LABELS + series.label_keys)


def _samples(series: Iterable[Series[T]], figures: T, labels: tuple[str, ...]) -> Iterator[LabelledSample]:
    for item in series:
        for sample in item.read(figures):
            yield LabelledSample(item.name, item.counter, labels + sample.labels, max(sample.value, 0), sample.timestamp)
