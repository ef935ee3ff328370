"""Limits as the kernel's files say them, and that a plan which fails leaves nothing."""

from pathlib import Path

import pytest

from crid.cgroup import limits
from crid.cgroup.limits import Setting
from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.resources import HostResources

V2 = HostResources(cgroup_v2=True, hugepage_sizes=frozenset({"2MB"}))
V1 = HostResources(cgroup_v2=False, hugepage_sizes=frozenset({"2MB"}))
ALL = cri.LinuxContainerResources(
    cpu_shares=1024,
    cpu_quota=50000,
    cpu_period=100000,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    memory_limit_in_bytes=1 << 20,
    memory_swap_limit_in_bytes=3 << 20,
    hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=4 << 20), cri.HugepageLimit(page_size="1GB", limit=0)],
)


def values(plan: list[Setting]) -> dict[str, str]:
    return {setting.name: setting.value for setting in plan}


def test_v2() -> None:
    assert values(limits.plan_v2(ALL, V2)) == {
        "cpu.weight": "39",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "memory.max": str(1 << 20),
        "memory.swap.max": str(2 << 20),
        "hugetlb.2MB.max": str(4 << 20),
    }


def test_v1() -> None:
    assert values(limits.plan_v1(ALL, V1, None)) == {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "memory.limit_in_bytes": str(1 << 20),
        "memory.memsw.limit_in_bytes": str(3 << 20),
        "hugetlb.2MB.limit_in_bytes": str(4 << 20),
    }


def test_no_limit_and_nothing_asked() -> None:
    none = cri.LinuxContainerResources(cpu_quota=-1, memory_limit_in_bytes=-1)
    assert values(limits.plan_v2(none, V2)) == {"cpu.max": "max 100000", "memory.max": "max", "memory.swap.max": "max"}
    assert limits.plan_v2(cri.LinuxContainerResources(), V2) == limits.plan_v1(cri.LinuxContainerResources(), V1, None) == []


def test_unified_keys() -> None:
    asked = cri.LinuxContainerResources(unified={"memory.high": "1000"})
    assert limits.plan_v2(asked, V2) == [Setting("memory", "memory.high", "1000")]
    with pytest.raises(InvalidArgumentError, match="unified"):
        limits.plan_v1(asked, V1, None)


@pytest.mark.parametrize(("now", "first"), [(None, "limit"), (2 << 20, "limit"), (1 << 19, "memsw.limit")])
def test_v1_never_has_both_below_memory_alone(now: int | None, first: str) -> None:
    """Lowering sets memory first, raising the limit of both."""
    plan = [setting.name for setting in limits.plan_v1(ALL, V1, now) if setting.controller == "memory"]
    assert plan[0] == f"memory.{first}_in_bytes"


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000)])
def test_weight(shares: int, weight: int) -> None:
    assert limits.weight(shares) == weight


def test_a_plan_that_fails_is_taken_back(tmp_path: Path) -> None:
    for name, value in (("a", "1"), ("b", "2")):
        (tmp_path / name).write_text(f"{value}\n")
    plan = [Setting("x", "a", "8"), Setting("x", "b", "9"), Setting("x", "missing", "0")]
    with pytest.raises(OSError, match="missing"):
        limits.apply(plan, lambda setting: str(tmp_path / setting.name))
    assert [(tmp_path / name).read_text() for name in "ab"] == ["1\n", "2\n"]
    limits.apply(plan[:2], lambda setting: str(tmp_path / setting.name))
    assert [(tmp_path / name).read_text()[0] for name in "ab"] == ["8", "9"]
