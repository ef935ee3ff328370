"""The durable records: what is published has been written, and what cannot be read harms nobody else."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.errors import FailedPreconditionError
from crid.linux.files import write_atomic
from crid.model.container import Container, ContainerState, ContainerStatus
from crid.model.sandbox import PodSandbox, SandboxStatus
from crid.store import records
from crid.store.state import Found, StateStore, examine
from tests.unit.store import objects


def add_container(store: StateStore, identifier: str = "a" * 64, created_at: int = 5) -> Container:
    directory = store.container_directory(identifier)
    directory.mkdir()
    return store.create_container(
        objects.container_metadata(directory, identifier, created_at), ContainerStatus(created_at=created_at)
    )


def add_sandbox(store: StateStore, identifier: str = "b" * 64, created_at: int = 5) -> PodSandbox:
    directory = store.sandbox_directory(identifier)
    directory.mkdir()
    return store.create_sandbox(objects.sandbox_metadata(directory, identifier, created_at), SandboxStatus())


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path, tmp_path / "run")


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No record can be written in here."""

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("crid.store.record_files.write_atomic", refuse)
        yield


def test_the_records_are_for_root_alone(store: StateStore, tmp_path: Path) -> None:
    container, sandbox = add_container(store), add_sandbox(store)
    for directory in (container.metadata.persist_directory, sandbox.metadata.directory):
        assert sorted(path.name for path in directory.iterdir()) == ["record.json", "status.json"]
        assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
        assert directory.parent.stat().st_mode & 0o777 == 0o700
    assert directory.parent.parent == tmp_path


def test_what_one_store_wrote_another_reads(store: StateStore, tmp_path: Path) -> None:
    container, sandbox = add_container(store), add_sandbox(store)
    store.update_container(container, lambda status: replace(status, started_at=6))
    store.update_sandbox(sandbox, lambda status: replace(status, stopped_at=7))
    other = StateStore(tmp_path, tmp_path / "run")
    (container_again,), (sandbox_again,) = other.load_containers(), other.load_sandboxes()
    assert (container_again.metadata, container_again.status) == (container.metadata, container.status)
    assert (sandbox_again.metadata, sandbox_again.status) == (sandbox.metadata, sandbox.status)


def test_oldest_first(store: StateStore) -> None:
    for identifier, created_at in (("1" * 64, 3), ("2" * 64, 1), ("3" * 64, 2)):
        add_container(store, identifier, created_at)
        add_sandbox(store, identifier, created_at)
    assert [item.created_at for item in store.load_containers()] == [1, 2, 3]
    assert [item.created_at for item in store.load_sandboxes()] == [1, 2, 3]


def test_an_update_is_durable_before_it_is_published(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    container, sandbox = add_container(store), add_sandbox(store)
    seen: list[object] = []

    def watch(path: Path, content: bytes) -> None:
        write_atomic(path, content)
        seen.extend([container.status.started_at, sandbox.status.ready])

    monkeypatch.setattr("crid.store.record_files.write_atomic", watch)
    assert store.update_container(container, lambda status: replace(status, started_at=6)).started_at == 6
    assert seen == [0, True]
    store.update_sandbox(sandbox, lambda status: replace(status, stopped_at=6))
    assert seen == [0, True, 6, True]
    assert container.status.started_at == 6
    assert not sandbox.status.ready


def test_an_update_that_changes_nothing_writes_nothing(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    container, sandbox = add_container(store), add_sandbox(store)
    with full_disk(monkeypatch):
        store.update_container(container, lambda status: status)
        store.update_sandbox(sandbox, lambda status: status)


def test_an_update_that_cannot_be_written_is_not_made(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    container, sandbox = add_container(store), add_sandbox(store)
    with full_disk(monkeypatch):
        with pytest.raises(OSError, match="No space"):
            store.update_container(container, lambda status: replace(status, started_at=6))
        with pytest.raises(OSError, match="No space"):
            store.update_sandbox(sandbox, lambda status: replace(status, stopped_at=6))
    assert container.status.state is ContainerState.CREATED
    assert sandbox.status.ready


def test_an_exit_is_known_though_the_disk_is_full(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    container = add_container(store)
    with full_disk(monkeypatch):
        assert not store.record_container(container, lambda status: replace(status, finished_at=9, exit_code=3))
    assert (container.status.finished_at, container.status.exit_code) == (9, 3)
    assert container.id in caplog.text
    assert store.load_containers()[0].status.state is ContainerState.CREATED
    assert store.record_container(container, lambda status: replace(status, exit_code=4))
    assert store.load_containers()[0].status.exit_code == 4


def test_a_pods_stop_is_known_though_the_disk_is_full(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox = add_sandbox(store)
    with full_disk(monkeypatch):
        assert not store.record_sandbox(sandbox, lambda status: replace(status, stopped_at=9))
    assert sandbox.status.stopped_at == 9
    assert sandbox.id in caplog.text
    assert store.load_sandboxes()[0].status.ready
    assert store.record_sandbox(sandbox, lambda status: replace(status, network_released=True))
    assert store.load_sandboxes()[0].status == sandbox.status


def test_a_really_full_disk_leaves_no_temporary_files(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    container = add_container(store)

    def refuse(descriptor: int, content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(OSError, match="No space"):
            store.update_container(container, lambda status: replace(status, started_at=6))
    assert sorted(path.name for path in container.metadata.persist_directory.iterdir()) == ["record.json", "status.json"]
    assert store.load_containers()[0].status == container.status


def spoil(path: Path, damage: str) -> None:
    content, other = path.read_bytes(), path.with_name("status.json" if path.name == "record.json" else "record.json")
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage != "gone":
        flipped = content.replace(b"1", b"3")
        path.write_bytes({"truncated": content[:-9], "empty": b"", "flipped": flipped, "another's": other.read_bytes()}[damage])


DAMAGES = ["truncated", "empty", "flipped", "directory", "another's"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [*(("record.json", damage) for damage in DAMAGES), *(("status.json", damage) for damage in [*DAMAGES, "gone"])],
)
def test_what_is_damaged_is_set_aside_and_others_load(
    store: StateStore, tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    containers = [add_container(store, digit * 64) for digit in "123"]
    sandboxes = [add_sandbox(store, digit * 64) for digit in "123"]
    spoil(containers[1].metadata.persist_directory / name, damage)
    spoil(sandboxes[1].metadata.directory / name, damage)
    assert [item.id[0] for item in store.load_containers()] == ["1", "3"]
    assert [item.id[0] for item in store.load_sandboxes()] == ["1", "3"]
    aside = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "damaged").iterdir())
    assert aside == [f"containers-{'2' * 64}", f"pods-{'2' * 64}"]
    assert str(containers[1].metadata.persist_directory) in caplog.text
    assert len(store.load_containers()) == len(store.load_sandboxes()) == 2


BODIES = {
    "a key is missing": {"id": "x"},
    "base64 of no message": {"config": "////"},
    "no base64": {"config": "é"},
    "a pair of one": {"pause": [1], "process": [1]},
    "no pair": {"pause": 3, "process": 3},
    "a list for a path": {"run_directory": [], "bundle": []},
}


@pytest.mark.parametrize("change", BODIES.values(), ids=BODIES)
def test_a_sealed_record_that_does_not_fit_is_damaged_too(store: StateStore, tmp_path: Path, change: dict[str, Any]) -> None:
    """As of a crid whose record has another shape and the same version by mistake."""
    add_container(store, "1" * 64)
    add_sandbox(store, "1" * 64)
    container, sandbox = add_container(store, "2" * 64), add_sandbox(store, "2" * 64)

    def reseal(path: Path, kind: str) -> None:
        body = records.unseal(kind, path.read_bytes(), path)
        path.write_bytes(records.seal(kind, change if change == {"id": "x"} else {**body, **change}))

    reseal(container.metadata.persist_directory / "record.json", "container")
    reseal(container.metadata.persist_directory / "status.json", "container-status")
    reseal(sandbox.metadata.directory / "record.json", "pod")
    assert [item.id[0] for item in store.load_containers()] == ["1"]
    assert [item.id[0] for item in store.load_sandboxes()] == ["1"]
    assert len(list((tmp_path / "damaged").iterdir())) == 2


def test_a_directory_without_a_record_is_incomplete_and_not_loaded(store: StateStore) -> None:
    add_container(store)
    add_sandbox(store)
    half, other = store.container_directory("e" * 64), store.sandbox_directory("f" * 64)
    half.mkdir()
    other.mkdir()
    (other / "status.json").write_bytes(b"")
    assert len(store.load_containers()) == len(store.load_sandboxes()) == 1
    assert half.exists()
    assert other.exists()


def test_a_stray_file_is_nobodys_record(store: StateStore, tmp_path: Path) -> None:
    (tmp_path / "pods" / "lost+found").write_text("")
    assert store.load_sandboxes() == []


def test_removal_is_idempotent_and_takes_the_record_first(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    container, sandbox = add_container(store), add_sandbox(store)

    def interrupted(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupted)
        with pytest.raises(OSError, match="Input/output"):
            store.remove_container(container.id)
    assert store.load_containers() == []
    assert container.metadata.persist_directory.exists()
    for _ in range(2):
        store.remove_container(container.id)
        store.remove_sandbox(sandbox.id)
    assert not container.metadata.persist_directory.exists()
    assert not sandbox.metadata.directory.exists()


def test_what_a_newer_crid_wrote_is_neither_read_nor_touched(
    store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_container(store)
    damaged = add_container(store, "1" * 64)
    spoil(damaged.metadata.persist_directory / "record.json", "truncated")
    store.refuse_newer()
    with monkeypatch.context() as patch:
        patch.setattr(records, "VERSION", records.VERSION + 1)
        newer = add_container(store, "2" * 64)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    for look in (store.refuse_newer, store.load_containers, lambda: examine(tmp_path, tmp_path / "run")):
        with pytest.raises(FailedPreconditionError, match=f"{newer.id}.*newer crid"):
            look()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_damage_is_not_taken_for_a_newer_version(store: StateStore) -> None:
    container = add_container(store)
    record = container.metadata.persist_directory / "record.json"
    record.write_bytes(record.read_bytes().replace(f'"version":{records.VERSION}'.encode(), b'"version":66'))
    store.refuse_newer()
    assert store.load_containers() == []


def test_examining_changes_nothing(store: StateStore, tmp_path: Path) -> None:
    assert examine(tmp_path / "nowhere", tmp_path / "run") == Found([], [], {}, [])
    container, sandbox = add_container(store), add_sandbox(store)
    damaged = add_container(store, "1" * 64)
    spoil(damaged.metadata.persist_directory / "status.json", "truncated")
    before = sorted(tmp_path.rglob("*"))
    found = examine(tmp_path, tmp_path / "run")
    assert ([item.id for item in found.sandboxes], [item.id for item in found.containers]) == ([sandbox.id], [container.id])
    assert list(found.damaged) == [damaged.metadata.persist_directory]
    assert sorted(tmp_path.rglob("*")) == before
    store.load_containers()
    assert [path.name[:12] for path in examine(tmp_path, tmp_path / "run").set_aside] == ["containers-1"]
