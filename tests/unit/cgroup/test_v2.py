from pathlib import Path

import pytest

from crid.cgroup.v2 import V2
from crid.errors import InvalidArgumentError, NotFoundError
from crid.model.stats import CpuStats, MemoryStats, PressureStats
from tests.unit.cgroup.recorded import V2_CONTAINER, write_tree


def test_stats(tmp_path: Path) -> None:
    write_tree(tmp_path / "pod" / "crid-a", V2_CONTAINER)
    stats = V2(tmp_path).stats("/pod/crid-a")
    assert stats.cpu == CpuStats(
        usage=3150867000,
        user=1358132000,
        system=1792734000,
        periods=160,
        throttled_periods=157,
        throttled_time=12440890000,
    )
    assert stats.memory == MemoryStats(
        usage=466944,
        working_set=466944 - 4096,
        limit=67108864,
        rss=106496,
        cache=8192,
        page_faults=10804,
        major_page_faults=26,
        swap_usage=0,
        swap_limit=None,
        oom_kills=1,
        limit_hits=211,
        kernel=249856,
    )
    assert (stats.pids, stats.pids_limit) == (1, 100)
    assert stats.cpu_pressure == PressureStats(50.70, 15.11, 3.46, 10494481, 50.70, 15.11, 3.46, 10492510)
    assert stats.io_pressure == PressureStats(0.0, 0.0, 0.0, 614, 0.0, 0.0, 0.0, 614)
    assert stats.memory_pressure is not None


def test_a_cgroup_without_controllers_still_counts_cpu_time(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", {"cpu.stat": "usage_usec 7\nuser_usec 3\nsystem_usec 4\n"})
    stats = V2(tmp_path).stats("a")
    assert stats.cpu == CpuStats(usage=7000, user=3000, system=4000)
    assert (stats.memory, stats.pids, stats.cpu_pressure) == (None, None, None)


def test_cpu_pressure_of_kernels_that_have_no_full_line(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", V2_CONTAINER | {"cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n"})
    assert V2(tmp_path).stats("a").cpu_pressure == PressureStats(1.5, 0.0, 0.0, 9, 0.0, 0.0, 0.0, 0)


def test_more_inactive_pages_than_usage_is_no_negative_working_set(tmp_path: Path) -> None:
    """The two files are not read at the same instant."""
    write_tree(tmp_path / "a", V2_CONTAINER | {"memory.stat": "inactive_file 999999999\n"})
    memory = V2(tmp_path).stats("a").memory
    assert memory is not None
    assert memory.working_set == 0


def test_a_missing_cgroup(tmp_path: Path) -> None:
    hierarchy = V2(tmp_path)
    with pytest.raises(NotFoundError, match="cgroup no/such"):
        hierarchy.stats("no/such")
    assert hierarchy.oom_kills("no/such") is None
    assert hierarchy.processes("no/such") == []
    assert not hierarchy.exists("no/such")
    hierarchy.remove("no/such")


def test_paths_do_not_lead_out(tmp_path: Path) -> None:
    hierarchy = V2(tmp_path / "root")
    for path in ("..", "/a/../../b"):
        with pytest.raises(InvalidArgumentError, match="not a plain path"):
            hierarchy.stats(path)
        with pytest.raises(InvalidArgumentError, match="not a plain path"):
            hierarchy.remove(path)


def test_oom_kills_and_processes(tmp_path: Path) -> None:
    write_tree(tmp_path / "pod" / "a", V2_CONTAINER | {"cgroup.procs": "1\n22\n"})
    write_tree(tmp_path / "pod" / "a" / "init.scope", {"cgroup.procs": "333\n"})
    write_tree(tmp_path / "pod", {"cgroup.procs": ""})
    hierarchy = V2(tmp_path)
    assert hierarchy.oom_kills("pod/a") == 1
    assert sorted(hierarchy.processes("pod")) == [1, 22, 333]


def test_create_asks_for_the_controllers_that_are_to_be_had(tmp_path: Path) -> None:
    """A plain file keeps only the last word written to it; that it names a missing controller is what counts."""
    write_tree(tmp_path, {"cgroup.controllers": "cpu memory pids rdma\n", "cgroup.subtree_control": "cpu memory\n"})
    V2(tmp_path).create("/a/b")
    assert (tmp_path / "cgroup.subtree_control").read_text().startswith("+rdma")
    assert (tmp_path / "a" / "b").is_dir()
    V2(tmp_path).create("/a/b")


@pytest.mark.parametrize(
    ("swap_file", "expected"), [("system.slice/memory.swap.max", True), ("system.slice/memory.max", False)]
)
def test_host_resources(tmp_path: Path, swap_file: str, expected: bool) -> None:
    write_tree(tmp_path, {"cgroup.controllers": "cpu memory\n", swap_file: "max\n"})
    host = V2(tmp_path).host_resources()
    assert host.cgroup_v2
    assert host.swap_accounting is expected
    assert host.hugepage_sizes == frozenset()
