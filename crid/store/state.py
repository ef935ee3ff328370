"""Durable records of pods and containers, and the one function each through which a status changes.

    <root>/pods/<id>/record.json        written once, when the pod is complete
    <root>/pods/<id>/status.json        rewritten at every change
    <root>/containers/<id>/...          the same
    <runroot>/pods/<id>/...             copies (crid.store.record_files)
    <root>/damaged/<kind>-<id>-<time>/  what could not be read at start, kept for a person to look at

A record is renamed into place, so the daemon's own death leaves the old version or the new one. It is not flushed to
the disk: after a power cut nothing runs any more, and a record torn by it is caught by its checksum and set aside. What
must outlive a power cut, image content, is flushed by its own store. One that is damaged while the machine goes on is
replaced by its copy, so what runs stays known; only without that, too, is the object given up.

A status is written before it is published, and a change that cannot be written is not made, with one exception: what
has happened (an exit, a stop) is true whether or not the disk is full, so `record_...` publishes it in any case.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from crid.errors import DataLossError
from crid.linux.files import says_nothing
from crid.log import fields
from crid.model.container import Container, ContainerMetadata, ContainerStatus
from crid.model.sandbox import PodSandbox, SandboxMetadata, SandboxStatus
from crid.store import records
from crid.store.record_files import RECORD, STATUS, Reading, RecordFiles
from crid.store.records import Body

logger = logging.getLogger(__name__)

T = TypeVar("T", PodSandbox, Container)

_BEGINNING = 32
"""Bytes of a record that tell its version."""


@dataclass(frozen=True, slots=True)
class _Kind(Generic[T]):
    """One kind of object: the directory of all of them, what its records are called inside, and how one is made of these."""

    directory: str
    record: str
    status: str
    make: Callable[[Path, Body, Body], T]

    @property
    def files(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The names of the two files, and what they hold."""
        return (RECORD, self.record), (STATUS, self.status)


_PODS = _Kind(
    "pods",
    "pod",
    "pod-status",
    lambda path, record, status: PodSandbox(records.sandbox_metadata(record, path), records.sandbox_status(status)),
)
_CONTAINERS = _Kind(
    "containers",
    "container",
    "container-status",
    lambda path, record, status: Container(records.container_metadata(record, path), records.container_status(status)),
)


class StateStore:
    """The records below `root`, with copies below `run_root`. Calls block for a small write; they are made from the event
    loop, which makes each atomic."""

    def __init__(self, root: Path, run_root: Path) -> None:
        self._root = root
        self._run_root = run_root
        self._pods = root / "pods"
        self._containers = root / "containers"
        self._damaged = root / "damaged"
        self._unwritten: dict[str, Callable[[], None]] = {}
        for directory in (self._pods, self._containers):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sandbox_directory(self, identifier: str) -> Path:
        """Return where the pod `identifier` keeps what survives a reboot."""
        return self._pods / identifier

    def container_directory(self, identifier: str) -> Path:
        """Return where the container `identifier` keeps what survives a reboot."""
        return self._containers / identifier

    def create_sandbox(self, metadata: SandboxMetadata, status: SandboxStatus) -> PodSandbox:
        """Write the records of a new pod, whose directory exists, and return the pod. Raises OSError."""
        files = self._files(_PODS, metadata.id)
        files.write(STATUS, _PODS.status, records.sandbox_status_body(status))
        files.write(RECORD, _PODS.record, records.sandbox_metadata_body(metadata))
        return PodSandbox(metadata, status)

    def create_container(self, metadata: ContainerMetadata, status: ContainerStatus) -> Container:
        """Write the records of a new container, whose directory exists, and return the container. Raises OSError."""
        files = self._files(_CONTAINERS, metadata.id)
        files.write(STATUS, _CONTAINERS.status, records.container_status_body(status))
        files.write(RECORD, _CONTAINERS.record, records.container_metadata_body(metadata))
        return Container(metadata, status)

    def update_sandbox(self, sandbox: PodSandbox, change: Callable[[SandboxStatus], SandboxStatus]) -> SandboxStatus:
        """Replace the pod's status by `change` of it: written, then published. Raises OSError, with nothing changed."""
        status = change(sandbox.status)
        if status != sandbox.status:
            self._write_sandbox(sandbox, status)
            sandbox.publish(status)
        return status

    def update_container(self, container: Container, change: Callable[[ContainerStatus], ContainerStatus]) -> ContainerStatus:
        """Replace the container's status by `change` of it: written, then published. Raises OSError, with nothing changed."""
        status = change(container.status)
        if status != container.status:
            self._write_container(container, status)
            container.publish(status)
        return status

    def record_sandbox(self, sandbox: PodSandbox, change: Callable[[SandboxStatus], SandboxStatus]) -> bool:
        """Like `update_sandbox`, for what has happened: published in any case. Returns whether it was written, too."""
        try:
            self.update_sandbox(sandbox, change)
        except OSError:
            logger.exception("a pod's status is known but could not be recorded%s", fields(pod=sandbox.id))
            sandbox.publish(change(sandbox.status))
            self._unwritten[sandbox.id] = lambda: self._write_sandbox(sandbox, sandbox.status)
            return False
        return True

    def record_container(self, container: Container, change: Callable[[ContainerStatus], ContainerStatus]) -> bool:
        """Like `update_container`, for what has happened: published in any case. Returns whether it was written, too."""
        try:
            self.update_container(container, change)
        except OSError:
            logger.exception("a container's status is known but could not be recorded%s", fields(container=container.id))
            container.publish(change(container.status))
            self._unwritten[container.id] = lambda: self._write_container(container, container.status)
            return False
        return True

    def _write_sandbox(self, sandbox: PodSandbox, status: SandboxStatus) -> None:
        self._files(_PODS, sandbox.id).write(STATUS, _PODS.status, records.sandbox_status_body(status))
        self._unwritten.pop(sandbox.id, None)

    def _write_container(self, container: Container, status: ContainerStatus) -> None:
        self._files(_CONTAINERS, container.id).write(STATUS, _CONTAINERS.status, records.container_status_body(status))
        self._unwritten.pop(container.id, None)

    def write_again(self) -> int:
        """Write what `record_...` could only publish; return how many records still cannot be written."""
        for identifier, write in list(self._unwritten.items()):
            try:
                write()
            except FileNotFoundError:  # removed meanwhile
                self._unwritten.pop(identifier, None)
            except OSError as error:
                logger.warning("a status can still not be recorded%s", fields(id=identifier, error=error))
            else:
                logger.info("a status is recorded after all%s", fields(id=identifier))
        return len(self._unwritten)

    def remove_sandbox(self, identifier: str) -> None:
        """Remove everything the pod kept. Idempotent."""
        self._remove(self._files(_PODS, identifier))

    def remove_container(self, identifier: str) -> None:
        """Remove everything the container kept. Idempotent."""
        self._remove(self._files(_CONTAINERS, identifier))

    def load_sandboxes(self) -> list[PodSandbox]:
        """Read all pods, oldest first. One without a record was never complete and is left out; what is damaged is set aside,
        and replaced by its copy if there is one.

        Raises, with nothing changed, FailedPreconditionError if one was written by a newer crid, OSError if it cannot be told
        whether one is damaged.
        """
        return self._load(_PODS)

    def load_containers(self) -> list[Container]:
        """Read all containers, oldest first, as `load_sandboxes` does."""
        return self._load(_CONTAINERS)

    def refuse_newer(self) -> None:
        """Raise FailedPreconditionError if any record was written by a newer crid: at the cost of a short look at each."""
        for kind in (_PODS, _CONTAINERS):
            for files in _all_files(self._root, self._run_root, kind.directory):
                for name, holds in kind.files:
                    _refuse_newer(files.directory / name, holds)

    def _files(self, kind: _Kind[T], identifier: str) -> RecordFiles:
        return RecordFiles(self._root / kind.directory / identifier, self._run_root / kind.directory / identifier)

    def _load(self, kind: _Kind[T]) -> list[T]:
        objects, damaged = _read_all(self._root, self._run_root, kind)
        for path, error in damaged.items():
            aside = self._aside(path)
            logger.error("damaged record set aside%s", fields(record=path, moved_to=aside, error=error))
            self._damaged.mkdir(mode=0o700, exist_ok=True)
            path.rename(aside)
        for item in objects:
            for name, reading in item.readings.items():
                self._mend(item.files, name, reading)
        return [item.object for item in objects]

    def _mend(self, files: RecordFiles, name: str, reading: Reading) -> None:
        aside = self._aside(files.directory)
        if reading.damage:
            logger.error("damaged record is replaced by its copy%s", fields(moved_to=aside, error=reading.damage))
        try:
            files.mend(name, reading, aside)
        except OSError as error:
            logger.warning("a damaged record cannot be replaced%s", fields(record=files.directory / name, error=error))

    def _aside(self, path: Path) -> Path:
        return self._damaged / f"{path.parent.name}-{path.name}-{time.time_ns()}"

    def _remove(self, files: RecordFiles) -> None:
        """Remove an object's records so that a crash midway leaves no record of a half of it."""
        self._unwritten.pop(files.directory.name, None)
        if files.directory.exists():
            files.forget()
            shutil.rmtree(files.directory)


@dataclass(frozen=True, slots=True)
class Found:
    """What the records below a root say, each kind oldest first."""

    sandboxes: list[PodSandbox]
    containers: list[Container]
    damaged: dict[Path, str]
    """The directories whose records cannot be read, and why."""
    set_aside: list[Path]
    """What was damaged at an earlier start."""
    copied: dict[Path, str] = field(default_factory=dict)
    """The directories of objects that are known by copies of their records, and what is wrong with these."""


def examine(root: Path, run_root: Path) -> Found:
    """Read all records below `root` and change nothing. Raises FailedPreconditionError if a newer crid wrote one, OSError."""
    pods, damaged_pods = _read_all(root, run_root, _PODS)
    containers, damaged_containers = _read_all(root, run_root, _CONTAINERS)
    aside = root / "damaged"
    return Found(
        [item.object for item in pods],
        [item.object for item in containers],
        {**damaged_pods, **damaged_containers},
        sorted(aside.iterdir()) if aside.is_dir() else [],
        {**_damage(pods), **_damage(containers)},
    )


@dataclass(frozen=True, slots=True)
class _Loaded(Generic[T]):
    """An object, and how its records were read."""

    object: T
    files: RecordFiles
    readings: dict[str, Reading]

    @property
    def damage(self) -> str:
        """What is wrong with its records, empty if nothing is."""
        return "; ".join(reading.damage for reading in self.readings.values() if reading.damage)


def _damage(items: Iterable[_Loaded[T]]) -> dict[Path, str]:
    return {item.files.directory: item.damage for item in items if item.damage}


def _refuse_newer(path: Path, holds: str) -> None:
    with contextlib.suppress(FileNotFoundError, IsADirectoryError), open(path, "rb") as file:
        if records.claims_newer(beginning := file.read(_BEGINNING)):
            with contextlib.suppress(DataLossError):
                records.unseal(holds, beginning + file.read(), path)


def _all_files(root: Path, run_root: Path, kind: str) -> list[RecordFiles]:
    directory = root / kind
    names = sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
    return [RecordFiles(directory / name, run_root / kind / name) for name in names]


def _read_all(root: Path, run_root: Path, kind: _Kind[T]) -> tuple[list[_Loaded[T]], dict[Path, str]]:
    """Return what has a record, oldest first, and the directories of those that are damaged, with the reason."""
    found: list[_Loaded[T]] = []
    damaged = {}
    for files in _all_files(root, run_root, kind.directory):
        if files.complete:
            try:
                readings = {name: files.read(name, holds) for name, holds in kind.files}
                made = kind.make(files.directory, *(reading.body for reading in readings.values()))
                found.append(_Loaded(made, files, readings))
            except (OSError, *records.DAMAGE) as error:
                if says_nothing(error):
                    raise  # it may be whole: what runs of it must not be taken apart
                damaged[files.directory] = str(error) if isinstance(error, DataLossError) else repr(error)
    return sorted(found, key=lambda item: item.object.created_at), damaged
