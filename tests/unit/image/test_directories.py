import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError
from crid.image.directories import Directories
from crid.image.tar import Member

MEMBER = Member("m", "0", 0o644, 0, 0, 0, 0)


@pytest.fixture
def counted() -> list[int]:
    return []


@pytest.fixture
def directories(tmp_path: Path, counted: list[int]) -> Iterator[Directories]:
    made = Directories(tmp_path, lambda: counted.append(1))
    yield made
    made.close()


def path_of(descriptor: int, top: Path) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(top))


def test_missing_ones_are_made_counted_and_remembered(directories: Directories, counted: list[int], tmp_path: Path) -> None:
    assert path_of(directories.get("a/b/c", MEMBER), tmp_path) == "a/b/c"
    assert path_of(directories.get("a/b", MEMBER), tmp_path) == "a/b"
    assert directories.get("", MEMBER) == directories.root
    assert list(directories.made.paths) == [".", "a", "a/b", "a/b/c"]
    assert len(counted) == directories.made.inodes == 3


def test_times_are_set_again_when_all_is_done(directories: Directories, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.utime(tmp_path / "d", ns=(5, 5))
    (tmp_path / "alias").symlink_to("d")
    for name in ("d", "alias"):
        directories.get(name, MEMBER)
    (tmp_path / "d/new").touch()
    descriptor = directories.find("d")
    directories.described("d", descriptor, 7)
    os.close(descriptor)
    for number in range(100):  # more than are held
        directories.get(f"other{number}", MEMBER)
    assert (tmp_path / "d").stat().st_mtime_ns == 7
    directories.get("d", MEMBER)
    (tmp_path / "d/newer").touch()
    directories.close()
    assert (tmp_path / "d").stat().st_mtime_ns == 7


def test_few_descriptors(directories: Directories) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    directories.get("d/" * 300 + "d", MEMBER)
    assert len([*Path("/proc/self/fd").iterdir()]) < before + 80
    directories.let_go_but(directories.root)
    assert len([*Path("/proc/self/fd").iterdir()]) <= before


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_directory_is_refused_by_name(directories: Directories, tmp_path: Path, kind: str) -> None:
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgumentError, match=f"layer member 'm': '{kind}' is "):
        directories.get(f"{kind}/below", MEMBER)
