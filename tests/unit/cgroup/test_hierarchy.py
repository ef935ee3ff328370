from pathlib import Path

import pytest

from crid.cgroup import hierarchy
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
