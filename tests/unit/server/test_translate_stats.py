"""Accounting as clients see it: what the kernel does not say is unset, which is not zero."""

from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.lifecycle.layer_sizes import DiskUsage
from crid.lifecycle.stats import ContainerReading, InterfaceReading, SandboxReading
from crid.model.container import Container, ContainerStatus
from crid.model.sandbox import PodSandbox, SandboxStatus
from crid.model.stats import CgroupStats, CpuStats, MemoryStats, PressureStats
from crid.server import translate_stats
from tests.unit.store import objects

DIRECTORY = Path("/var/lib/crid/x")
CONTAINER = Container(objects.container_metadata(DIRECTORY), ContainerStatus(created_at=5, started_at=6))
POD = PodSandbox(objects.sandbox_metadata(DIRECTORY), SandboxStatus())
PRESSURE = PressureStats(1, 2, 3, 4, 5, 6, 7, 8)
CGROUP = CgroupStats(
    timestamp=9,
    cpu=CpuStats(usage=100),
    memory=MemoryStats(usage=50, working_set=40, limit=30, rss=0, swap_usage=5, swap_limit=20),
    pids=3,
    cpu_pressure=PRESSURE,
    memory_pressure=PRESSURE,
    io_pressure=PRESSURE,
)


def test_nothing_known() -> None:
    message = translate_stats.container_stats(ContainerReading(CONTAINER, None, None, None))
    assert message.attributes.id == CONTAINER.id
    for name in ("cpu", "memory", "swap", "io", "writable_layer"):
        assert not message.HasField(name)
    bare = translate_stats.container_stats(ContainerReading(CONTAINER, CgroupStats(9), None, None))
    assert not bare.cpu.HasField("usage_core_nano_seconds")
    assert not bare.memory.HasField("working_set_bytes")


def test_all_known() -> None:
    message = translate_stats.container_stats(ContainerReading(CONTAINER, CGROUP, 0, DiskUsage(8, 7, 6, "/var")))
    assert message.cpu.usage_core_nano_seconds.value == 100
    assert message.cpu.HasField("usage_nano_cores")
    assert message.memory.working_set_bytes.value == 40
    assert message.memory.available_bytes.value == 0  # more in use than the limit: never negative
    assert message.memory.HasField("rss_bytes")
    assert not message.memory.HasField("page_faults")
    assert (message.swap.swap_usage_bytes.value, message.swap.swap_available_bytes.value) == (5, 15)
    for psi in (message.cpu.psi, message.memory.psi, message.io.psi):
        assert (psi.Some.Total, psi.Some.Avg10, psi.Some.Avg60, psi.Some.Avg300) == (4000, 1, 2, 3)
        assert (psi.Full.Total, psi.Full.Avg10, psi.Full.Avg60, psi.Full.Avg300) == (8000, 5, 6, 7)
    layer = message.writable_layer
    assert (layer.timestamp, layer.used_bytes.value, layer.inodes_used.value) == (8, 7, 6)
    assert layer.fs_id.mountpoint == "/var"


def test_no_limit_means_no_figure_of_what_is_left() -> None:
    unlimited = CgroupStats(9, memory=MemoryStats(usage=1, working_set=1, swap_usage=0))
    message = translate_stats.container_stats(ContainerReading(CONTAINER, unlimited, None, None))
    assert not message.memory.HasField("available_bytes")
    assert message.swap.HasField("swap_usage_bytes")
    assert not message.swap.HasField("swap_available_bytes")


def test_a_pod_with_its_containers() -> None:
    interfaces = (InterfaceReading("eth0", 1, 2, 3, 4), InterfaceReading("net1", 5, 6, 7, 8))
    own = ContainerReading(CONTAINER, CGROUP, None, None)
    linux = translate_stats.sandbox_stats(SandboxReading(POD, CGROUP, None, interfaces, (own,), 77)).linux
    assert [item.attributes.id for item in linux.containers] == [CONTAINER.id]
    assert linux.process.process_count.value == 3
    assert linux.network.timestamp == 77
    first = linux.network.default_interface
    assert (first.name, first.rx_bytes.value, first.rx_errors.value, first.tx_bytes.value, first.tx_errors.value) == (
        "eth0", 1, 2, 3, 4,
    )  # fmt: skip
    assert [item.name for item in linux.network.interfaces] == ["net1"]


def test_a_pod_of_which_nothing_is_known() -> None:
    message = translate_stats.sandbox_stats(SandboxReading(POD, None, None, (), (), 77))
    assert message.linux == cri.LinuxPodSandboxStats()
    assert message.attributes.id == POD.id
