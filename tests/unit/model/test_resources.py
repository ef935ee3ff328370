from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.resources import HostResources, linux_resources, merge_resources, pod_resources, undoing

V2 = HostResources(cgroup_v2=True, hugepage_sizes=frozenset(("2MB",)), swap_accounting=True)
V1 = HostResources(cgroup_v2=False)
Resources = cri.LinuxContainerResources


def test_nothing_asked_for_is_nothing_set() -> None:
    assert linux_resources(Resources(), V2) == {}


def test_all_of_it() -> None:
    resources = Resources(
        cpu_period=100_000,
        cpu_quota=50_000,
        cpu_shares=512,
        cpuset_cpus="0-1,3",
        cpuset_mems="0",
        memory_limit_in_bytes=1 << 20,
        memory_swap_limit_in_bytes=2 << 20,
        oom_score_adj=900,
        hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=4 << 20)],
        unified={"memory.high": "900000"},
    )
    assert linux_resources(resources, V2) == {
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0-1,3", "mems": "0"},
        "memory": {"limit": 1 << 20, "swap": 2 << 20},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
        "unified": {"memory.high": "900000"},
    }


def test_a_cpuset_is_said_in_the_shortest_way() -> None:
    """The kernel takes no text of any length."""
    resources = Resources(cpuset_cpus=" 1,0" + ",1" * 50_000, cpuset_mems="0,0\n")
    assert linux_resources(resources, V2) == {"cpu": {"cpus": "0-1", "mems": "0"}}


def test_a_memory_limit_alone_allows_no_swap() -> None:
    assert linux_resources(Resources(memory_limit_in_bytes=100), V2)["memory"] == {"limit": 100, "swap": 100}


def test_swap_that_the_host_does_not_account_is_left_out() -> None:
    host = HostResources(swap_accounting=False)
    resources = Resources(memory_limit_in_bytes=100, memory_swap_limit_in_bytes=200)
    assert linux_resources(resources, host)["memory"] == {"limit": 100}


def test_minus_one_is_no_limit() -> None:
    resources = Resources(cpu_quota=-1, memory_limit_in_bytes=-1)
    assert linux_resources(resources, V2) == {"cpu": {"quota": -1}, "memory": {"limit": -1, "swap": -1}}


@pytest.mark.parametrize(("asked", "given"), [(1, 2), (2, 2), (262144, 262144), (1 << 40, 262144)])
def test_shares_are_kept_in_the_kernels_bounds(asked: int, given: int) -> None:
    assert linux_resources(Resources(cpu_shares=asked), V2) == {"cpu": {"shares": given}}


def test_huge_pages_that_the_host_lacks_are_left_out_and_zero_is_a_limit() -> None:
    limits = [cri.HugepageLimit(page_size=size, limit=0) for size in ("2MB", "1GB")]
    assert linux_resources(Resources(hugepage_limits=limits), V2) == {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    assert linux_resources(Resources(hugepage_limits=limits), V1) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu_shares", -1),
        ("cpu_period", -1),
        ("cpu_period", 999),
        ("cpu_period", 1_000_001),
        ("cpu_quota", -2),
        ("cpu_quota", 999),
        ("cpu_quota", 1 << 44),
        ("memory_limit_in_bytes", -2),
        ("memory_swap_limit_in_bytes", -2),
        ("memory_swap_limit_in_bytes", 100),  # without a memory limit
        ("oom_score_adj", 1001),
        ("oom_score_adj", -1001),
        ("cpuset_cpus", "3-1"),
        ("cpuset_cpus", "0,"),
        ("cpuset_cpus", "all"),
        ("cpuset_cpus", "0-99999999"),
        ("cpuset_cpus", "0\n1"),
        ("cpuset_mems", "-1"),
        ("unified", {"../cpu.max": "1"}),
        ("unified", {"cgroup.procs": "1"}),
        ("unified", {"cgroup.kill": "1"}),
        ("unified", {"": ""}),
    ],
)
def test_what_no_kernel_takes_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^resources\.{field}: "):
        linux_resources(Resources(**{field: value}), V2)


def test_swap_below_memory_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="memory_swap_limit_in_bytes: 99 must not be below the memory limit 100"):
        linux_resources(Resources(memory_limit_in_bytes=100, memory_swap_limit_in_bytes=99), V2)


def test_unified_keys_need_v2() -> None:
    with pytest.raises(InvalidArgumentError, match=r"memory\.high needs cgroup v2"):
        linux_resources(Resources(unified={"memory.high": "1"}), V1)


def test_merging_keeps_what_the_update_does_not_say() -> None:
    current = Resources(
        cpu_shares=512,
        cpu_quota=20_000,
        memory_limit_in_bytes=100,
        cpuset_cpus="0",
        hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=1), cri.HugepageLimit(page_size="1GB", limit=2)],
        unified={"memory.high": "1", "memory.low": "2"},
    )
    update = Resources(
        cpu_shares=1024,
        cpuset_mems="0",
        hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=0)],
        unified={"memory.high": "3"},
    )
    expected = Resources(
        cpu_shares=1024,
        cpu_quota=20_000,
        memory_limit_in_bytes=100,
        cpuset_cpus="0",
        cpuset_mems="0",
        hugepage_limits=[cri.HugepageLimit(page_size="1GB", limit=2), cri.HugepageLimit(page_size="2MB", limit=0)],
        unified={"memory.high": "3", "memory.low": "2"},
    )
    before = current.SerializeToString(deterministic=True), update.SerializeToString(deterministic=True)
    assert merge_resources(current, update) == expected
    assert before == (current.SerializeToString(deterministic=True), update.SerializeToString(deterministic=True))


@pytest.mark.parametrize("limit", [50, 300])
def test_a_new_memory_limit_drops_the_swap_limit_made_for_the_old_one(limit: int) -> None:
    current = Resources(memory_limit_in_bytes=100, memory_swap_limit_in_bytes=200)
    merged = merge_resources(current, Resources(memory_limit_in_bytes=limit))
    assert linux_resources(merged, V2)["memory"] == {"limit": limit, "swap": limit}
    both = merge_resources(current, Resources(memory_limit_in_bytes=limit, memory_swap_limit_in_bytes=2 * limit))
    assert linux_resources(both, V2)["memory"] == {"limit": limit, "swap": 2 * limit}


numbers = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)


@given(
    st.builds(
        Resources,
        cpu_shares=numbers,
        cpu_quota=numbers,
        cpu_period=numbers,
        memory_limit_in_bytes=numbers,
        memory_swap_limit_in_bytes=numbers,
        cpuset_cpus=st.text(max_size=12),
        unified=st.dictionaries(st.text(max_size=12), st.text(max_size=4), max_size=2),
    )
)
def test_any_message_is_either_refused_or_in_bounds(resources: cri.LinuxContainerResources) -> None:
    try:
        result = linux_resources(resources, V2)
    except InvalidArgumentError:
        return
    cpu, memory = result.get("cpu", {}), result.get("memory", {})
    assert 2 <= cpu.get("shares", 2) <= 262144
    assert 1000 <= cpu.get("period", 1000) <= 1_000_000
    assert memory.get("swap", -1) == -1 or memory["swap"] >= memory["limit"] > 0
    assert not any("/" in key for key in result.get("unified", {}))


def test_undoing_names_defaults_for_what_was_not_limited() -> None:
    """A runtime that is told less than before leaves the rest as it is."""
    before = {"memory": {"limit": 5, "swap": 5}}
    after = {"memory": {"limit": 9, "swap": 9}, "cpu": {"shares": 2, "cpus": "0"}}
    assert undoing(before, after) == {"memory": {"limit": 5, "swap": 5}, "cpu": {"shares": 1024}}
    assert undoing({}, {"memory": {"limit": 9}}) == {"memory": {"limit": -1}}


def test_a_pod_costs_more_than_its_containers() -> None:
    containers = cri.LinuxContainerResources(cpu_shares=100, cpu_quota=10000, cpu_period=50000, memory_limit_in_bytes=1000)
    overhead = cri.LinuxContainerResources(cpu_shares=10, cpu_quota=20000, cpu_period=100000, memory_limit_in_bytes=24)
    both = pod_resources(overhead, containers)
    assert (both.cpu_shares, both.cpu_quota, both.memory_limit_in_bytes) == (110, 20000, 1024)
    unlimited = pod_resources(overhead, cri.LinuxContainerResources())
    assert unlimited == cri.LinuxContainerResources()


def test_the_oom_score_is_not_what_an_update_changes() -> None:
    merged = merge_resources(cri.LinuxContainerResources(oom_score_adj=5), cri.LinuxContainerResources(oom_score_adj=9))
    assert merged.oom_score_adj == 5
