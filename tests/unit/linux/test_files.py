import errno
import os
from pathlib import Path

import pytest

from crid.linux import files


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_content_replaces_the_old(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "record"
    files.write_atomic(path, b"old", durable=durable)
    files.write_atomic(path, b"new" * 100_000, mode=0o640, durable=durable)
    assert path.read_bytes() == b"new" * 100_000
    assert path.stat().st_mode & 0o7777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record"
    files.write_atomic(path, b"old")

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


@pytest.mark.parametrize("call", ["write", "rename"])
def test_an_error_names_the_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*names: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *((names[0], None, names[1]) if call == "rename" else ()))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space") as caught:
        files.write_atomic(tmp_path / "record", b"new")
    assert str(caught.value) == f"[Errno 28] No space left on device: '{tmp_path}/record'"


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_atomic(tmp_path / "missing" / "record", b"")


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert files.read_regular(tmp_path / "file", 10) == b"x" * size


def test_what_is_too_large_or_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, why in (
        (tmp_path / "large", "larger than 10 bytes"),
        (tmp_path / "pipe", "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "loop", "Too many levels"),
        (tmp_path, "no regular file"),
        (tmp_path / "missing", "No such file"),
    ):
        with pytest.raises(OSError, match=f"{why}.*{path}"):
            files.read_regular(path, 10)
