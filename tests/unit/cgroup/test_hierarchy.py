from pathlib import Path

import pytest

from crid.cgroup import hierarchy
from crid.cgroup.v1 import V1
from crid.cgroup.v2 import V2
from crid.errors import InvalidArgumentError


def test_ancestors() -> None:
    assert hierarchy.ancestors("/a/b//c/") == ["a", "a/b", "a/b/c"]
    assert hierarchy.ancestors("/") == []


def test_huge_page_sizes(tmp_path: Path) -> None:
    for kilobytes in (64, 2048, 32768, 1048576, 16777216):
        (tmp_path / f"hugepages-{kilobytes}kB").mkdir()
    assert hierarchy.hugepage_sizes(tmp_path) == {"64KB", "2MB", "32MB", "1GB", "16GB"}
    assert hierarchy.hugepage_sizes(tmp_path / "missing") == frozenset()


@pytest.mark.parametrize(("name", "unlimited"), [("memory.max", "max"), ("memory.limit_in_bytes", str((1 << 63) - 4096))])
def test_the_smallest_memory_limit_of_a_cgroup_and_those_above(tmp_path: Path, name: str, unlimited: str) -> None:
    cgroups = V2(tmp_path) if name == "memory.max" else V1({"memory": str(tmp_path)})
    (tmp_path / "a/b/c").mkdir(parents=True)
    for path, limit in (("a", unlimited), ("a/b", "8192"), ("a/b/c", "16384")):
        (tmp_path / path / name).write_text(f"{limit}\n")
    assert [cgroups.memory_limit(path) for path in ("/a", "/a/b", "a/b/c", "/none", "/")] == [None, 8192, 8192, None, None]
    assert V1({"cpu": str(tmp_path)}).memory_limit("/a/b") is None


def test_removing_takes_what_is_below_and_nothing_beside(tmp_path: Path) -> None:
    for name in ("pod/a/b", "pod/c", "pod-2"):
        (tmp_path / name).mkdir(parents=True)
    V2(tmp_path).remove("/pod")
    assert [path.name for path in tmp_path.iterdir()] == ["pod-2"]
    V2(tmp_path).remove("/pod")


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_the_root_is_not_removed(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="root"):
        V2(tmp_path).remove(path)


async def test_removal_gives_up_after_its_delays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchy, "_REMOVE_DELAYS", (0, 0))
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "in-use").touch()
    with pytest.raises(OSError, match=r"rmdir: Device or resource busy.*pod"):
        V2(tmp_path).remove("pod")
    with pytest.raises(OSError, match=r"rmdir: Device or resource busy.*pod"):
        await V2(tmp_path).remove_async("pod")
