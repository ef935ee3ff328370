import os
from pathlib import Path

import pytest

from crid.linux import disk


def allocated(*paths: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in paths)


def test_counts_directories_files_and_links_once(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(b"x" * 100_000)
    os.link(below / "file", tmp_path / "same")
    (tmp_path / "link").symlink_to("/usr")
    paths = (tmp_path, tmp_path / "a", below, below / "file", tmp_path / "link")
    assert disk.disk_usage(str(tmp_path)) == disk.DiskUsage(allocated(*paths), len(paths))


def test_a_hole_takes_no_space(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert disk.disk_usage(str(tmp_path)).bytes < 1 << 20


def test_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    """Such a tree can be made by going down step by step, and must not hide what it takes."""
    depth, name = 60, "d" * 200
    descriptors = [os.open(tmp_path, os.O_RDONLY)]
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptors[-1])
        descriptors.append(os.open(name, os.O_RDONLY, dir_fd=descriptors[-1]))
    with open("file", "wb", opener=lambda path, flags: os.open(path, flags, dir_fd=descriptors[-1])) as file:
        file.write(b"x" * 1_000_000)
    try:
        usage = disk.disk_usage(str(tmp_path))
        assert usage.inodes == depth + 2
        assert usage.bytes >= 1_000_000
    finally:
        os.unlink("file", dir_fd=descriptors[-1])
        os.close(descriptors.pop())
        while descriptors:
            os.rmdir(name, dir_fd=descriptors[-1])
            os.close(descriptors.pop())


def test_the_top_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path / "missing", tmp_path / "link"):
        with pytest.raises(OSError, match=path.name):
            disk.disk_usage(str(path))


def test_mount_point_of(tmp_path: Path) -> None:
    assert disk.mount_point_of("/proc/self/status") == "/proc"
    assert disk.mount_point_of("/") == "/"
    (tmp_path / "link").symlink_to("/proc/version")
    assert disk.mount_point_of(str(tmp_path / "link")) == "/proc"
    with pytest.raises(FileNotFoundError):
        disk.mount_point_of(str(tmp_path / "missing"))
