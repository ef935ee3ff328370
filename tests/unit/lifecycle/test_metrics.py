"""Samples for the kubelet: their labels fit the descriptions, and there is none of what is not known."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.cgroup.v1 import V1, mounted_controllers
from crid.cgroup.v2 import V2
from crid.config import METRIC_GROUPS
from crid.cri import api_pb2 as cri
from crid.errors import NotFoundError
from crid.lifecycle.layer_sizes import DiskUsage, LayerSizes
from crid.lifecycle.metrics import BASE_LABELS, LabelledSample, Metrics
from crid.lifecycle.metrics_table import (
    CONTAINER_SERIES,
    POD_SERIES,
    ContainerFigures,
    DiskFigures,
    ProcessFigures,
    Sample,
    Series,
)
from crid.lifecycle.stats import InterfaceReading, Stats
from crid.linux.process_usage import ProcessUsage
from crid.model.stats import CgroupStats, DeviceUsage, HugepageUsage
from tests.unit.cgroup.recorded import V1_CONTAINER, V2_CONTAINER, write_tree
from tests.unit.lifecycle.world import IMAGE, World

SECOND = 1_000_000_000
RESOURCES = cri.LinuxContainerResources(
    cpu_period=100000,
    cpu_quota=20000,
    cpu_shares=512,
    memory_limit_in_bytes=1 << 26,
    memory_swap_limit_in_bytes=1 << 27,
    unified={"memory.min": "4096"},
)
EVERY: list[Series[Any]] = [*CONTAINER_SERIES, *POD_SERIES]
NEVER_WITHOUT_CGROUPS = {"container_last_seen", "container_start_time_seconds"} | {
    series.name for series in CONTAINER_SERIES if series.group == "spec"
}


def figures(cgroup: CgroupStats | None) -> ContainerFigures:
    return ContainerFigures(
        now=100 * SECOND,
        started_at=90 * SECOND + 7,
        resources=RESOURCES,
        cgroup=cgroup,
        devices=[("/dev/sda", DeviceUsage(8, 0, 1, 2, 3, 4, 5)), ("8:16", DeviceUsage(8, 16))],
        hugepages=[HugepageUsage("2MB", 6, 7), HugepageUsage("1GB", 8)],
        process=ProcessFigures(ProcessUsage(2, 30, 4), 1024),
        disk=DiskFigures("/dev/sda1", 50, 99, 500, 60, 6),
    )


@pytest.fixture(params=["v1", "v2"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, list[Sample]]:
    """The samples of a container that was throttled and out of memory, by name."""
    if request.param == "v2":
        write_tree(tmp_path / "a", V2_CONTAINER | {"memory.peak": "67108864\n"})
        stats = V2(tmp_path).stats("a")
    else:
        own = {f"{controller}/cgroup.procs": "" for controller in ("cpu", "cpuacct", "memory", "pids")}
        more = {"max_usage_in_bytes": "67108864\n", "failcnt": "211\n", "kmem.usage_in_bytes": "249856\n"}
        files = V1_CONTAINER | {f"memory/memory.{name}": content for name, content in more.items()}
        write_tree(tmp_path, own | {name.replace("/", "/a/", 1): content for name, content in files.items()})
        stats = V1(mounted_controllers(tmp_path)).stats("a")
    return {series.name: list(series.read(figures(stats))) for series in CONTAINER_SERIES}


def test_the_tables() -> None:
    assert len({series.name for series in EVERY}) == len(EVERY) == 56
    assert {series.group for series in EVERY} == {"", *METRIC_GROUPS}
    for series in EVERY:
        assert series.help.endswith(".")
        assert len(set(BASE_LABELS + series.label_keys)) == len(BASE_LABELS + series.label_keys)
        assert series.counter == (series.name.endswith(("_total", "_failcnt")) and series.name != "container_fs_inodes_total")


def test_each_sample_has_its_series_labels_and_no_other_has_the_same(recorded: dict[str, list[Sample]]) -> None:
    for series in CONTAINER_SERIES:
        for sample in recorded[series.name]:
            assert len(sample.labels) == len(series.label_keys), series.name
        assert len({sample.labels for sample in recorded[series.name]}) == len(recorded[series.name])


def test_values(recorded: dict[str, list[Sample]], request: pytest.FixtureRequest) -> None:
    v2 = "v2" in request.node.name

    def value(name: str) -> int:
        (sample,) = recorded[f"container_{name}"]
        return sample.value

    assert recorded["container_cpu_usage_seconds_total"] == [Sample(3 if v2 else 0, ("total",))]
    assert value("cpu_cfs_throttled_periods_total") == (157 if v2 else 19)
    assert value("cpu_cfs_throttled_seconds_total") == (12 if v2 else 1)
    assert value("memory_max_usage_bytes") == 67108864
    assert (value("memory_failcnt"), value("memory_kernel_usage")) == (211, 249856)
    assert value("memory_rss") == (106496 if v2 else 32768)
    faults = (10804, 26) if v2 else (24298, 2)
    assert {sample.labels: sample.value for sample in recorded["container_memory_failures_total"]} == {
        (kind, scope): count
        for kind, count in zip(("pgfault", "pgmajfault"), faults, strict=True)
        for scope in ("container", "hierarchy")
    }
    assert value("oom_events_total") == 1
    assert (value("threads"), value("threads_max"), value("processes"), value("sockets")) == (1, 100, 2, 4)
    assert recorded["container_ulimits_soft"] == [Sample(1024, ("max_open_files",))]
    assert (value("start_time_seconds"), value("last_seen")) == (90, 100)
    assert (value("spec_cpu_quota"), value("spec_memory_swap_limit_bytes")) == (20000, 1 << 27)
    assert value("spec_memory_reservation_limit_bytes") == 4096
    assert recorded["container_fs_usage_bytes"] == [Sample(50, ("/dev/sda1",), 99)]
    assert recorded["container_fs_reads_bytes_total"] == [Sample(1, ("/dev/sda",)), Sample(0, ("8:16",))]
    assert Sample(2, ("/dev/sda", "8", "0", "Write")) in recorded["container_blkio_device_usage_total"]
    assert recorded["container_hugetlb_max_usage_bytes"] == [Sample(7, ("2MB",))]
    if v2:
        assert value("pressure_cpu_waiting_seconds_total") == 10
        assert value("pressure_memory_stalled_seconds_total") == 0
    else:
        assert recorded["container_pressure_cpu_waiting_seconds_total"] == []


def test_what_is_not_known_has_no_sample() -> None:
    bare = ContainerFigures(100 * SECOND, 0, cri.LinuxContainerResources(), None)
    found = {series.name for series in CONTAINER_SERIES if list(series.read(bare))}
    memory = {"memory_limit_bytes", "memory_reservation_limit_bytes", "memory_swap_limit_bytes"}
    assert found == {"container_last_seen"} | {f"container_spec_{name}" for name in memory}


@pytest.mark.parametrize("value", ["max", "-1", "", "x", str(1 << 62)])
def test_limits_that_are_none(value: str) -> None:
    resources = cri.LinuxContainerResources(memory_limit_in_bytes=-1, cpu_quota=-1, unified={"memory.min": value})
    own = replace(figures(None), resources=resources)
    found = {series.name: list(series.read(own)) for series in CONTAINER_SERIES}
    assert found["container_spec_memory_limit_bytes"] == [Sample(0)]
    assert found["container_spec_memory_reservation_limit_bytes"] == [Sample(0)]
    assert found["container_spec_cpu_quota"] == []


def test_the_network() -> None:
    interfaces = (InterfaceReading("eth0", 1, 2, 3, 4, 5, 6, 7, 8), InterfaceReading("net1", 9, 9, 9, 9))
    found = {series.name: [sample.value for sample in series.read(interfaces)] for series in POD_SERIES}
    assert found == {
        "container_network_receive_bytes_total": [1, 9],
        "container_network_receive_errors_total": [2, 9],
        "container_network_transmit_bytes_total": [3, 9],
        "container_network_transmit_errors_total": [4, 9],
        "container_network_receive_packets_total": [5, 0],
        "container_network_receive_packets_dropped_total": [6, 0],
        "container_network_transmit_packets_total": [7, 0],
        "container_network_transmit_packets_dropped_total": [8, 0],
    }


def metrics(world: World, *groups: str) -> Metrics:
    return Metrics(world.parts, Stats(world.parts), frozenset(groups or METRIC_GROUPS))


def by_name(samples: tuple[LabelledSample, ...]) -> dict[str, list[LabelledSample]]:
    found: defaultdict[str, list[LabelledSample]] = defaultdict(list)
    for sample in samples:
        found[sample.name].append(sample)
    return found


async def test_pods_that_are_ready_and_containers_that_have_not_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Stats, "interfaces", lambda self, pods: {pod.id: (InterfaceReading("eth0", 1, 2, 3, 4),) for pod in pods}
    )
    pod, stopped = await world.pod(), await world.pod("gone")
    await world.sandboxes.stop(stopped.id)
    container, ended = await world.running(pod, "stubborn"), await world.running(pod, "stubborn", name="b")
    await world.containers.stop(ended.id, 0)
    tested = metrics(world)
    (read,) = await tested.pods()
    assert (read.sandbox_id, list(read.containers)) == (pod.id, [container.id])
    labels = {series.name: series.label_keys for series in tested.described()}
    assert len(labels) == 56
    for sample in (*read.own, *read.containers[container.id]):
        assert len(sample.labels) == len(labels[sample.name])
    (usage,) = by_name(read.containers[container.id])["container_memory_usage_bytes"]
    assert dict(zip(BASE_LABELS, usage.labels, strict=True)) == {
        "id": f"/crid/{pod.id}/crid-{container.id}",
        "name": container.id,
        "image": IMAGE,
        "namespace": "default",
        "pod": "web",
        "container": "app",
    }
    (received,) = by_name(read.own)["container_network_receive_bytes_total"]
    assert received.labels == (f"/crid/{pod.id}", pod.id, "", "default", "web", "POD", "eth0")
    found = by_name(read.containers[container.id])
    assert found["container_fs_inodes_total"][0].value == os.statvfs(world.images.upper(container.id)).f_files
    assert found["container_fs_usage_bytes"][0].timestamp > 0
    assert found["container_fs_limit_bytes"][0].timestamp == 0
    assert found["container_fs_reads_total"][0].value == 1


@pytest.mark.parametrize("group", METRIC_GROUPS)
async def test_only_what_is_included_is_described_and_read(world: World, monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    await world.running(await world.pod(), "stubborn")
    costly = {"diskIO": "device_usage", "hugetlb": "hugepage_usage", "process": "processes"}
    read: set[str] = set()

    def note(name: str) -> Callable[..., list[Any]]:
        def reading(*arguments: object) -> list[Any]:
            read.add(name)
            return []

        return reading

    for name in costly.values():
        monkeypatch.setattr(world.hierarchy, name, note(name))
    monkeypatch.setattr(Stats, "interfaces", lambda *_: dict(note("interfaces")()))

    async def measured(sizes: LayerSizes, identifiers: Iterable[str]) -> dict[str, DiskUsage | None]:
        read.add("layer_sizes")
        return dict.fromkeys(identifiers)

    monkeypatch.setattr(LayerSizes, "of", measured)
    tested = metrics(world, group)
    assert {series.name for series in tested.described()} == {series.name for series in EVERY if series.group in ("", group)}
    (pod,) = await tested.pods()
    assert {sample.name for found in (pod.own, *pod.containers.values()) for sample in found} <= {
        series.name for series in tested.described()
    }
    costly |= {"disk": "layer_sizes", "network": "interfaces"}
    assert read == ({costly[group]} if group in costly else set())


async def test_a_container_that_has_just_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await world.running(await world.pod(), "stubborn")

    def gone(container: object) -> None:
        raise NotFoundError("no cgroup")

    monkeypatch.setattr(world.runtime, "stats", gone)
    (pod,) = await metrics(world).pods()
    assert {sample.name for sample in pod.containers[container.id]} <= NEVER_WITHOUT_CGROUPS
