import os
from pathlib import Path

import pytest

from crid.config.reread import Reread, drop_ins
from crid.errors import InvalidArgumentError
from crid.image.references import parse
from crid.image.registries_file import configured


def test_files_are_read_only_when_one_has_changed(tmp_path: Path) -> None:
    reads: list[str] = []
    directory = tmp_path / "d"

    def read() -> str:
        reads.append("".join(path.read_text() for path in drop_ins(directory, "*.conf")))
        return reads[-1]

    files = Reread(lambda: [directory, *drop_ins(directory, "*.conf")], read)
    assert files.get() == files.get() == ""
    assert len(reads) == 1

    def changed(path: Path, when: int) -> None:
        """Set its time: the clock of a file system is coarse, and two changes of this test may have the same."""
        os.utime(path, ns=(when, when))

    directory.mkdir()
    (directory / "a.conf").write_text("a")
    assert files.get() == files.get() == "a"
    (directory / "a.conf").write_text("b")  # of the same size, in the same directory
    changed(directory / "a.conf", 1)
    assert files.get() == files.get() == "b"
    (directory / "b.conf").write_text("c")
    changed(directory, 2)
    assert files.get() == "bc"
    (directory / "a.conf").unlink()
    assert files.get() == files.get() == "c"
    assert len(reads) == 5


def test_an_error_is_raised_until_the_file_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "registries.conf"
    files = configured(path, tmp_path / "none")
    path.write_text("= 3")
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match=r"registries\.conf"):
            files.get()
    path.write_text('[[registry]]\nlocation = "q.io"\nblocked = true\n')
    assert [registry.prefix for registry in files.get().registries] == ["q.io"]
    assert files.get() is files.get()
    assert str(files.get().candidates("q.io/a")[0]) == str(parse("q.io/a"))
