import errno
from pathlib import Path

import pytest

from crid.cgroup import files


def test_numbers(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, expected in (("42\n", 42), ("0\n", 0), ("max\n", None), ("9223372036854771712\n", None), ("", None)):
        path.write_text(content)
        assert files.read_number(str(path)) == expected
    assert files.read_number(str(tmp_path / "missing")) is None
    assert files.read_number(str(path / "below-a-file")) is None


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a 1\nb_c 22\n")
    assert files.read_table(str(path)) == {b"a": 1, b"b_c": 22}
    assert files.read_table(str(tmp_path / "missing")) == {}


def test_pids(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("".join(f"{pid}\n" for pid in range(10_000)))
    assert files.read_pids(str(path)) == list(range(10_000))
    assert files.read_pids(str(tmp_path / "missing")) == []


def test_other_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=tmp_path.name) as caught:
        files.read(str(tmp_path))
    assert caught.value.errno == errno.EISDIR
    with pytest.raises(FileNotFoundError, match="missing"):
        files.write(str(tmp_path / "missing"), "1")
    with pytest.raises(OSError, match="write '1': No space left on device: '/dev/full'"):
        files.write("/dev/full", "1")
