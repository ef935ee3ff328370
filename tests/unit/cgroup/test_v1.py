from pathlib import Path

import pytest

from crid.cgroup.v1 import V1, mounted_controllers
from crid.errors import NotFoundError
from crid.model.stats import CpuStats, MemoryStats
from tests.unit.cgroup.recorded import V1_CONTAINER, write_tree


def tree(root: Path, path: str, files: dict[str, str]) -> V1:
    """A v1 host with the cgroup `path`; the names in `files` are CONTROLLER/FILE."""
    for name in ("cpu", "cpuacct", "cpuset", "memory", "pids", "systemd"):
        write_tree(root / name, {"cgroup.procs": ""})
    write_tree(root, {f"{name.partition('/')[0]}/{path}/{name.partition('/')[2]}": content for name, content in files.items()})
    return V1(mounted_controllers(root))


def test_stats(tmp_path: Path) -> None:
    stats = tree(tmp_path, "pod/a", V1_CONTAINER).stats("/pod/a")
    assert stats.cpu == CpuStats(
        usage=387067745, user=283986140, system=120000000, periods=19, throttled_periods=19, throttled_time=1476495926
    )
    assert stats.memory == MemoryStats(
        usage=43286528,
        working_set=43286528 - 42999808,
        limit=64 << 20,
        rss=32768,
        cache=43077632,
        page_faults=24298,
        major_page_faults=2,
        swap_usage=0,
        swap_limit=32 << 20,
        oom_kills=1,
        mapped_file=0,
    )
    assert (stats.pids, stats.pids_limit) == (1, 100)
    assert stats.cpu_pressure is None


def test_without_swap_accounting_and_without_limit(tmp_path: Path) -> None:
    files = {name: content for name, content in V1_CONTAINER.items() if "memsw" not in name}
    files["memory/memory.limit_in_bytes"] = "9223372036854771712\n"
    memory = tree(tmp_path, "a", files).stats("a").memory
    assert memory is not None
    assert (memory.limit, memory.swap_limit) == (None, None)


def test_a_cgroup_with_some_controllers_only(tmp_path: Path) -> None:
    stats = tree(tmp_path, "a", {"pids/pids.current": "3\n"}).stats("a")
    assert (stats.pids, stats.pids_limit, stats.cpu, stats.memory) == (3, None, None, None)


def test_a_missing_cgroup(tmp_path: Path) -> None:
    hierarchy = tree(tmp_path, "a", V1_CONTAINER)
    with pytest.raises(NotFoundError, match="cgroup b"):
        hierarchy.stats("b")
    assert hierarchy.oom_kills("b") is None
    assert hierarchy.processes("b") == []
    hierarchy.remove("b")


def test_oom_kills_and_processes(tmp_path: Path) -> None:
    hierarchy = tree(tmp_path, "a", V1_CONTAINER | {"pids/cgroup.procs": "5\n6\n"})
    assert hierarchy.oom_kills("a") == 1
    assert hierarchy.processes("a") == [5, 6]


def test_controllers_that_share_a_tree(tmp_path: Path) -> None:
    write_tree(tmp_path, {"cpu,cpuacct/cgroup.procs": "", "memory/cgroup.procs": "", "no-controller/cgroup.procs": ""})
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "pids").mkdir()  # not mounted
    hierarchy = V1(mounted_controllers(tmp_path))
    assert len(hierarchy.directories("a")) == 2
    hierarchy.create("a/b")
    assert (tmp_path / "cpu,cpuacct" / "a" / "b").is_dir()
    assert (tmp_path / "memory" / "a" / "b").is_dir()
    hierarchy.remove("a")
    assert not hierarchy.exists("a")


def test_a_new_cpuset_has_what_is_above_and_keeps_its_own(tmp_path: Path) -> None:
    hierarchy = tree(tmp_path, "pod", {})
    write_tree(tmp_path / "cpuset", {"cpuset.cpus": "0-3\n", "cpuset.mems": "0\n"})
    write_tree(tmp_path / "cpuset" / "pod", {"cpuset.cpus": "2\n", "cpuset.mems": "\n"})
    write_tree(tmp_path / "cpuset" / "pod" / "a", {"cpuset.cpus": "\n", "cpuset.mems": "\n"})
    hierarchy.create("pod/a")
    assert (tmp_path / "cpuset/pod/cpuset.cpus").read_text() == "2\n"
    assert (tmp_path / "cpuset/pod/cpuset.mems").read_text().strip() == "0"
    assert (tmp_path / "cpuset/pod/a/cpuset.cpus").read_text().strip() == "2"


@pytest.mark.parametrize("accounted", [True, False])
def test_host_resources(tmp_path: Path, accounted: bool) -> None:
    hierarchy = tree(tmp_path, "a", {})
    if accounted:
        write_tree(tmp_path, {"memory/memory.memsw.limit_in_bytes": "1\n"})
    host = hierarchy.host_resources()
    assert not host.cgroup_v2
    assert host.swap_accounting is accounted
    assert host.hugepage_sizes == frozenset()
