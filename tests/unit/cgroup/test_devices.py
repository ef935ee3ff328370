"""Block devices and huge pages, as both kernels' files tell of them."""

from pathlib import Path

import pytest

from crid.cgroup import devices
from crid.cgroup.v1 import V1, mounted_controllers
from crid.cgroup.v2 import V2
from crid.model.stats import DeviceUsage, HugepageUsage
from tests.unit.cgroup.recorded import write_tree

IO_STAT = """\
8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=4096 dios=1
8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=0 dios=0 cost.usage=5
7:0
254:0 cost.usage=5
"""
BYTES = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Async 2\n8:0 Discard 512\n8:0 Total 12800\n8:16 Read 1\nTotal 12801\n"
REQUESTS = "8:0 Read 3\n8:0 Write 4\n8:0 Discard 1\n8:0 Total 8\nTotal 8\n"


def test_v2(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", {"io.stat": IO_STAT})
    assert V2(tmp_path).device_usage("a") == [
        DeviceUsage(8, 16, 1459200, 314773504, 4096, 192, 353),
        DeviceUsage(8, 0, 90430464, 299008000, 0, 8950, 1252),
    ]
    assert V2(tmp_path).device_usage("b") == []


def test_a_host_of_many_devices(tmp_path: Path) -> None:
    """More lines than any other control file has."""
    lines = [f"8:{minor} rbytes={minor} wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n" for minor in range(2000)]
    write_tree(tmp_path / "a", {"io.stat": "".join(lines)})
    assert [usage.read_bytes for usage in V2(tmp_path).device_usage("a")] == list(range(2000))


def test_v1(tmp_path: Path) -> None:
    write_tree(tmp_path / "blkio", {"cgroup.procs": ""})
    names = {"io_service_bytes_recursive": BYTES, "io_serviced_recursive": REQUESTS}
    write_tree(tmp_path / "blkio" / "a", {f"blkio.throttle.{name}": content for name, content in names.items()})
    hierarchy = V1(mounted_controllers(tmp_path))
    assert hierarchy.device_usage("a") == [DeviceUsage(8, 0, 4096, 8192, 512, 3, 4), DeviceUsage(8, 16, 1)]
    assert hierarchy.device_usage("b") == []


def test_huge_pages(tmp_path: Path) -> None:
    """Limits, counts of failures and reservations beside them are none of it."""
    files = {"2MB.current": "4194304\n", "2MB.max": "max\n", "2MB.rsvd.current": "9\n", "1GB.current": "0\n"}
    write_tree(tmp_path / "v2" / "a", {f"hugetlb.{name}": content for name, content in files.items()})
    assert V2(tmp_path / "v2").hugepage_usage("a") == [HugepageUsage("1GB", 0), HugepageUsage("2MB", 4194304)]
    assert V2(tmp_path / "v2").hugepage_usage("b") == []
    write_tree(tmp_path / "v1" / "hugetlb", {"cgroup.procs": ""})
    names = {"2MB.usage_in_bytes": "2097152\n", "2MB.max_usage_in_bytes": "4194304\n", "2MB.rsvd.usage_in_bytes": "9\n"}
    write_tree(tmp_path / "v1" / "hugetlb" / "a", {f"hugetlb.{name}": content for name, content in names.items()})
    assert V1(mounted_controllers(tmp_path / "v1")).hugepage_usage("a") == [HugepageUsage("2MB", 2097152, 4194304)]


def test_a_v1_host_without_the_controllers(tmp_path: Path) -> None:
    write_tree(tmp_path / "memory", {"cgroup.procs": ""})
    hierarchy = V1(mounted_controllers(tmp_path))
    assert (hierarchy.device_usage("a"), hierarchy.hugepage_usage("a")) == ([], [])


@pytest.mark.parametrize("content", [b"", b"Total 0\n"])
def test_nothing_was_read_or_written(content: bytes) -> None:
    assert devices.parse_v1(content, content) == []
