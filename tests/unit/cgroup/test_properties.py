"""Limits of a slice, as systemd names and counts them."""

import pytest

from crid.cgroup.properties import UNLIMITED, slice_properties
from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.resources import HostResources

V2 = HostResources(cgroup_v2=True)
V1 = HostResources(cgroup_v2=False)
ALL = cri.LinuxContainerResources(
    cpu_shares=1024,
    cpu_quota=50000,
    cpu_period=200000,
    cpuset_cpus="0-2,9",
    cpuset_mems="0",
    memory_limit_in_bytes=1 << 20,
    memory_swap_limit_in_bytes=3 << 20,
    hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=4 << 20)],
)


def test_v2() -> None:
    assert slice_properties(ALL, V2) == {
        "CPUWeight": ("t", 39),
        "CPUQuotaPerSecUSec": ("t", 250_000),
        "CPUQuotaPeriodUSec": ("t", 200_000),
        "AllowedCPUs": ("ay", b"\x07\x02"),
        "AllowedMemoryNodes": ("ay", b"\x01"),
        "MemoryMax": ("t", 1 << 20),
        "MemorySwapMax": ("t", 2 << 20),
    }


def test_v1_has_no_cpusets_and_no_swap() -> None:
    assert slice_properties(ALL, V1) == {
        "CPUShares": ("t", 1024),
        "CPUQuotaPerSecUSec": ("t", 250_000),
        "CPUQuotaPeriodUSec": ("t", 200_000),
        "MemoryLimit": ("t", 1 << 20),
    }


def test_files_of_cgroup_v2_that_systemd_looks_after() -> None:
    """Numbers; the rest is left to the kernel, with what systemd does not know."""
    files = {"memory.high": "64", "memory.max": "max", "pids.max": "9", "memory.low": "1G", "memory.oom.group": "1"}
    assert slice_properties(cri.LinuxContainerResources(unified=files), V2) == {
        "MemoryHigh": ("t", 64),
        "MemoryMax": ("t", UNLIMITED),
        "TasksMax": ("t", 9),
    }


def test_no_limit() -> None:
    unlimited = cri.LinuxContainerResources(cpu_quota=-1, memory_limit_in_bytes=-1, memory_swap_limit_in_bytes=-1)
    assert set(slice_properties(unlimited, V2).values()) == {("t", UNLIMITED)}
    assert slice_properties(cri.LinuxContainerResources(), V2) == {}


def test_a_quota_is_never_less_than_asked_for() -> None:
    """systemd counts in hundredths of a CPU."""
    odd = cri.LinuxContainerResources(cpu_quota=33333, cpu_period=100000)
    assert slice_properties(odd, V2)["CPUQuotaPerSecUSec"] == ("t", 340_000)


def test_what_no_kernel_takes_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="cpu_quota"):
        slice_properties(cri.LinuxContainerResources(cpu_quota=1), V2)
