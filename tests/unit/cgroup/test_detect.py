from pathlib import Path

import pytest

from crid.cgroup.detect import detect
from crid.cgroup.v1 import V1
from crid.cgroup.v2 import V2
from crid.errors import UnavailableError
from tests.unit.cgroup.recorded import write_tree


def test_unified(tmp_path: Path) -> None:
    write_tree(tmp_path, {"cgroup.controllers": "cpu\n", "cgroup.procs": ""})
    assert isinstance(detect(tmp_path), V2)


@pytest.mark.parametrize("unified", [{}, {"unified/cgroup.controllers": "hugetlb\n", "unified/cgroup.procs": ""}])
def test_v1_and_hybrid(tmp_path: Path, unified: dict[str, str]) -> None:
    write_tree(tmp_path, {"memory/cgroup.procs": "", "systemd/cgroup.procs": ""} | unified)
    hierarchy = detect(tmp_path)
    assert isinstance(hierarchy, V1)
    assert repr(hierarchy) == "<V1 memory,systemd>"
    assert [Path(directory).parent.name for directory in hierarchy.directories("a")] == ["memory", "systemd"]


@pytest.mark.parametrize("files", [{}, {"systemd/cgroup.procs": ""}, {"memory/other": ""}])
def test_nothing_to_work_with(tmp_path: Path, files: dict[str, str]) -> None:
    write_tree(tmp_path, files)
    with pytest.raises(UnavailableError, match="no cgroups are mounted"):
        detect(tmp_path)
    with pytest.raises(UnavailableError, match="no cgroups are mounted"):
        detect(tmp_path / "missing")
