"""Each record lies twice: what becomes of one place, the object is known by the other."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from crid.errors import DataLossError, FailedPreconditionError
from crid.linux.files import write_atomic
from crid.model.container import Container, ContainerStatus
from crid.store import records
from crid.store.record_files import RECORD, STATUS, RecordFiles
from crid.store.state import StateStore, examine
from tests.unit.store import objects

ID = "a" * 64
DAMAGES = ["truncated", "empty", "flipped", "directory", "gone"]


def files(tmp_path: Path) -> RecordFiles:
    found = RecordFiles(tmp_path / "containers" / ID, tmp_path / "run/containers" / ID)
    for directory in (found.directory, found.copies):
        directory.mkdir(parents=True, exist_ok=True)
    return found


def add(tmp_path: Path) -> Container:
    """Add a container that has been started, whose bundle is there."""
    files(tmp_path)
    store = StateStore(tmp_path, tmp_path / "run")
    metadata = objects.container_metadata(store.container_directory(ID), ID)
    container = store.create_container(metadata, ContainerStatus(created_at=5))
    store.update_container(container, lambda status: replace(status, started_at=6))
    return container


def spoil(path: Path, damage: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"truncated": content[:-9], "empty": b"", "flipped": content.replace(b"1", b"3")}[damage])


@pytest.mark.parametrize("name", [RECORD, STATUS])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_replaced_by_its_copy(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The object is as it was; what was damaged is kept for a person, and said."""
    container, where = add(tmp_path), files(tmp_path)
    whole = (where.directory / name).read_bytes()
    spoil(where.directory / name, damage)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json") if path.is_file()}
    found = examine(tmp_path, tmp_path / "run")
    assert found.damaged == {}
    assert list(found.copied) == [where.directory]
    assert str(where.directory / name) in found.copied[where.directory]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json") if path.is_file()} == before
    (again,) = StateStore(tmp_path, tmp_path / "run").load_containers()
    assert (again.metadata, again.status) == (container.metadata, container.status)
    assert (where.directory / name).read_bytes() == whole
    assert f"{where.directory / name}" in caplog.text
    (aside,) = (tmp_path / "damaged").iterdir()
    assert [path.name for path in aside.iterdir()] == ([] if damage == "gone" else [name])
    assert examine(tmp_path, tmp_path / "run").copied == {}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_written_again(tmp_path: Path, damage: str) -> None:
    """So is one that is missing since an older crid made the object."""
    container, where = add(tmp_path), files(tmp_path)
    whole = (where.copies / STATUS).read_bytes()
    assert whole == (where.directory / STATUS).read_bytes()
    spoil(where.copies / STATUS, damage)
    (again,) = StateStore(tmp_path, tmp_path / "run").load_containers()
    assert again.status == container.status
    assert damage == "directory" or (where.copies / STATUS).read_bytes() == whole
    assert not (tmp_path / "damaged").exists()


def test_without_a_good_copy_the_damage_is_what_is_said(tmp_path: Path) -> None:
    add(tmp_path)
    where = files(tmp_path)
    for directory in (where.directory, where.copies):
        spoil(directory / STATUS, "truncated")
    with pytest.raises(DataLossError, match=str(where.directory / STATUS)):
        where.read(STATUS, "container-status")
    assert StateStore(tmp_path, tmp_path / "run").load_containers() == []


def test_a_copy_of_a_newer_crid_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(records, "VERSION", records.VERSION + 1)
        add(tmp_path)
    where = files(tmp_path)
    spoil(where.directory / RECORD, "truncated")
    with pytest.raises(FailedPreconditionError, match="newer crid"):
        where.read(RECORD, "container")


def test_the_copy_comes_after_the_record_and_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is never a copy of what was not recorded, and never one of what is removed."""
    where, written = files(tmp_path), []

    def write(path: Path, content: bytes) -> None:
        written.append(path)
        write_atomic(path, content)

    monkeypatch.setattr("crid.store.record_files.write_atomic", write)
    where.write(RECORD, "container", {})
    assert written == [where.directory / RECORD, where.copies / RECORD]
    removed: list[Path] = []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: removed.append(path))
    where.forget()
    assert removed == [where.copies / RECORD, where.directory / RECORD]


def test_what_cannot_be_recorded_has_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = files(tmp_path)

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("crid.store.record_files.write_atomic", refuse)
    with pytest.raises(OSError, match="No space"):
        where.write(RECORD, "container", {})
    assert not where.complete


def test_a_copy_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full tmpfs is said, an earlier boot's missing directory is not worth a word."""
    where = files(tmp_path)

    def write(path: Path, content: bytes) -> None:
        if path.parent == where.copies:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_atomic(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("crid.store.record_files.write_atomic", write)
        where.write(RECORD, "container", {"a": 1})
    assert where.read(RECORD, "container").body == {"a": 1}
    assert "a record has no copy" in caplog.text
    caplog.clear()
    where.copies.rmdir()
    where.write(RECORD, "container", {"a": 2})
    assert where.read(RECORD, "container").body == {"a": 2}
    assert caplog.text == ""


def test_a_record_that_cannot_be_replaced_is_known_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is read-only, say: the next start finds the copy again."""
    container, where = add(tmp_path), files(tmp_path)
    spoil(where.directory / STATUS, "truncated")

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("crid.store.record_files.write_atomic", refuse)
        (again,) = StateStore(tmp_path, tmp_path / "run").load_containers()
    assert again.status == container.status
    assert "a damaged record cannot be replaced" in caplog.text
    (again,) = StateStore(tmp_path, tmp_path / "run").load_containers()
    assert again.status == container.status


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("unread", ["record", "copy", "both"])
def test_a_record_that_cannot_be_read_now_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, unread: str
) -> None:
    """The machine has no more of something. Nothing is set aside: what runs of the object would be taken apart."""
    container, where = add(tmp_path), files(tmp_path)
    if unread == "copy":
        spoil(where.directory / STATUS, "truncated")
    refused = [where.directory / STATUS] * (unread != "copy") + [where.copies / STATUS] * (unread != "record")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path in refused:
            raise OSError(code, os.strerror(code), str(path))
        return read_bytes(path)

    with monkeypatch.context() as exhausted:
        exhausted.setattr(Path, "read_bytes", refuse)
        with pytest.raises(OSError, match=os.strerror(code)):
            StateStore(tmp_path, tmp_path / "run").load_containers()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (known,) = StateStore(tmp_path, tmp_path / "run").load_containers()
    assert known.status == container.status
