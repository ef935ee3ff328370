"""Durable records of pods and containers, and the one function each through which a status changes.

    <root>/pods/<id>/record.json        written once, when the pod is complete
    <root>/pods/<id>/status.json        rewritten at every change
    <root>/containers/<id>/...          the same
    <root>/damaged/<kind>-<id>-<time>/  what could not be read at start, kept for a person to look at

A record is renamed into place, so the daemon's own death leaves the old version or the new one. It is not flushed to
the disk: after a power cut nothing runs any more, and a record torn by it is caught by its checksum and set aside. What
must outlive a power cut, image content, is flushed by its own store.

A status is written before it is published, and a change that cannot be written is not made, with one exception: what
has happened (an exit, a stop) is true whether or not the disk is full, so `record_...` publishes it in any case.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from crid.errors import DataLossError
from crid.linux.files import write_atomic
from crid.log import fields
from crid.model.container import Container, ContainerMetadata, ContainerStatus
from crid.model.sandbox import PodSandbox, SandboxMetadata, SandboxStatus
from crid.store import records

logger = logging.getLogger(__name__)

T = TypeVar("T", PodSandbox, Container)

_POD_FILES = (("record.json", "pod"), ("status.json", "pod-status"))
_CONTAINER_FILES = (("record.json", "container"), ("status.json", "container-status"))
_BEGINNING = 32
"""Bytes of a record that tell its version."""


class StateStore:
    """The records below `root`. Calls block for a small write; they are made from the event loop, which makes each atomic."""

    def __init__(self, root: Path) -> None:
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
        _write(metadata.directory / "status.json", "pod-status", records.sandbox_status_body(status))
        _write(metadata.directory / "record.json", "pod", records.sandbox_metadata_body(metadata))
        return PodSandbox(metadata, status)

    def create_container(self, metadata: ContainerMetadata, status: ContainerStatus) -> Container:
        """Write the records of a new container, whose directory exists, and return the container. Raises OSError."""
        _write(metadata.persist_directory / "status.json", "container-status", records.container_status_body(status))
        _write(metadata.persist_directory / "record.json", "container", records.container_metadata_body(metadata))
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
        _write(sandbox.metadata.directory / "status.json", "pod-status", records.sandbox_status_body(status))
        self._unwritten.pop(sandbox.id, None)

    def _write_container(self, container: Container, status: ContainerStatus) -> None:
        path = container.metadata.persist_directory / "status.json"
        _write(path, "container-status", records.container_status_body(status))
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
        self._unwritten.pop(identifier, None)
        _remove(self._pods / identifier)

    def remove_container(self, identifier: str) -> None:
        """Remove everything the container kept. Idempotent."""
        self._unwritten.pop(identifier, None)
        _remove(self._containers / identifier)

    def load_sandboxes(self) -> list[PodSandbox]:
        """Read all pods, oldest first. One without a record was never complete and is left out; a damaged one is set aside.

        Raises FailedPreconditionError, with nothing changed, if one was written by a newer crid.
        """
        return self._load(self._pods, _load_sandbox)

    def load_containers(self) -> list[Container]:
        """Read all containers, oldest first, as `load_sandboxes` does."""
        return self._load(self._containers, _load_container)

    def incomplete(self) -> list[Path]:
        """Return the directories of pods and containers whose creation did not come to its record."""
        both = [*_entries(self._pods), *_entries(self._containers)]
        return [path for path in both if not (path / "record.json").exists()]

    def refuse_newer(self) -> None:
        """Raise FailedPreconditionError if any record was written by a newer crid: at the cost of a short look at each."""
        for directory, kinds in ((self._pods, _POD_FILES), (self._containers, _CONTAINER_FILES)):
            for path in _entries(directory):
                for name, kind in kinds:
                    with contextlib.suppress(FileNotFoundError, IsADirectoryError), open(path / name, "rb") as file:
                        if records.claims_newer(beginning := file.read(_BEGINNING)):
                            with contextlib.suppress(DataLossError):
                                records.unseal(kind, beginning + file.read(), path / name)

    def _load(self, directory: Path, read: Callable[[Path], T]) -> list[T]:
        found, damaged = _read_all(directory, read)
        for path, error in damaged.items():
            aside = self._damaged / f"{path.parent.name}-{path.name}-{time.time_ns()}"
            logger.error("damaged record set aside%s", fields(record=path, moved_to=aside, error=error))
            self._damaged.mkdir(mode=0o700, exist_ok=True)
            path.rename(aside)
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What the records below a root say, each kind oldest first."""

    sandboxes: list[PodSandbox]
    containers: list[Container]
    damaged: dict[Path, str]
    """The directories whose records cannot be read, and why."""
    set_aside: list[Path]
    """What was damaged at an earlier start."""


def examine(root: Path) -> Found:
    """Read all records below `root` and change nothing. Raises FailedPreconditionError if a newer crid wrote one, OSError."""
    sandboxes, damaged_pods = _read_all(root / "pods", _load_sandbox)
    containers, damaged_containers = _read_all(root / "containers", _load_container)
    aside = root / "damaged"
    return Found(
        sandboxes,
        containers,
        {**damaged_pods, **damaged_containers},
        sorted(aside.iterdir()) if aside.is_dir() else [],
    )


def _entries(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.iterdir()) if path.is_dir()] if directory.is_dir() else []


def _read_all(directory: Path, read: Callable[[Path], T]) -> tuple[list[T], dict[Path, str]]:
    """Return what has a record, oldest first, and the directories of those that are damaged, with the reason."""
    found: list[T] = []
    damaged = {}
    for path in _entries(directory):
        if (path / "record.json").exists():
            try:
                found.append(read(path))
            except (OSError, *records.DAMAGE) as error:
                damaged[path] = str(error) if isinstance(error, DataLossError) else repr(error)
    return sorted(found, key=lambda item: item.created_at), damaged


def _load_sandbox(path: Path) -> PodSandbox:
    record, status = (_read(path / name, kind) for name, kind in _POD_FILES)
    return PodSandbox(records.sandbox_metadata(record, path), records.sandbox_status(status))


def _load_container(path: Path) -> Container:
    record, status = (_read(path / name, kind) for name, kind in _CONTAINER_FILES)
    return Container(records.container_metadata(record, path), records.container_status(status))


def _write(path: Path, kind: str, body: dict[str, Any]) -> None:
    write_atomic(path, records.seal(kind, body))


def _read(path: Path, kind: str) -> dict[str, Any]:
    return records.unseal(kind, path.read_bytes(), path)


def _remove(path: Path) -> None:
    """Remove a directory so that a crash midway leaves no record pointing to a half of it: the record goes first."""
    if path.exists():
        (path / "record.json").unlink(missing_ok=True)
        shutil.rmtree(path)
