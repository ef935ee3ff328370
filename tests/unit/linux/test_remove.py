import os
import subprocess
import sys
from pathlib import Path

import pytest

from crid.linux.remove import remove_tree
from tests.harness.tools import open_descriptors


def deep(top: Path, depth: int) -> None:
    """Make directories inside each other, by descriptors: no path is long enough."""
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=descriptor)
        below = os.open("directory", os.O_RDONLY, dir_fd=descriptor)
        os.close(os.open("f", os.O_CREAT, dir_fd=descriptor))
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def test_a_tree_of_all_kinds(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    top = tmp_path / "top"
    for name in ("a/b/c", "a/d", "e"):
        (top / name).mkdir(parents=True)
        (top / name / "file").touch()
    (top / "a/link").symlink_to(outside)
    os.mkfifo(top / "a/fifo")
    os.link(outside / "kept", top / "e/hard")
    remove_tree(top)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert [path.name for path in outside.iterdir()] == ["kept"]
    remove_tree(top)


def test_files_links_and_descriptors(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "link").symlink_to("d")
    remove_tree(tmp_path / "link")
    assert (tmp_path / "d/e").is_dir()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        remove_tree("d", dir_fd=directory)
    finally:
        os.close(directory)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_deeper_than_python_recurses_and_paths_are_long(tmp_path: Path) -> None:
    deep(tmp_path / "top", 1500)
    before = open_descriptors()
    remove_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []
    assert open_descriptors() == before


def test_many_deep_ones_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    for number in range(3):
        deep(tmp_path / "top" / str(number), 200)
    remove_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
def test_what_is_mounted_in_the_tree_stays(tmp_path: Path) -> None:
    for name in ("top/a/mounted", "top/b", "top/a/c", "volume"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "volume/precious").touch()
    program = (
        f"mount --bind {tmp_path}/volume {tmp_path}/top/a/mounted && {sys.executable} -c "
        f"'from crid.linux.remove import remove_tree; remove_tree(\"{tmp_path}/top\")'"
    )
    run = subprocess.run(["unshare", "-m", "sh", "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "[Errno 18]" in run.stderr
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["top", "top/a", "top/a/mounted", "volume", "volume/precious"]
