"""Who has the lock, and a wipe that takes it away. A daemon that holds it is in tests/integration/e2e/test_check.py."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from crid.assembly.locks import LOCK, lock_holder, locked
from crid.config import Config
from crid.errors import AlreadyExistsError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(Config(), root=str(tmp_path / "root"))


def test_one_at_a_time_and_then_the_next(config: Config) -> None:
    root = Path(config.root)
    assert lock_holder(root) is None
    for _ in range(2):
        with locked(config), pytest.raises(AlreadyExistsError, match=str(root)), locked(config):
            pass
        assert lock_holder(root) is None


def test_a_lock_that_is_removed_while_it_is_taken_is_none(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wipe may end between opening and locking: a third one would make the file anew, and both would have it."""
    root, flock = Path(config.root), fcntl.flock

    def after_a_wipe(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        os.unlink(root / LOCK)
        root.rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_a_wipe)
    with locked(config), pytest.raises(AlreadyExistsError), locked(config):
        pass


def test_the_holder_is_found_whatever_the_kernel_calls_the_device(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a file on btrfs. The same number on another file system is somebody else's lock."""
    root, read_text = Path(config.root), Path.read_text
    with locked(config):
        lock = (root / LOCK).stat()
        mine = f"1: FLOCK  ADVISORY  WRITE {os.getpid()} fe:fe:{lock.st_ino} 0 EOF\n"
        others = f"2: FLOCK  ADVISORY  WRITE {os.getppid()} fe:fd:{lock.st_ino} 0 EOF\n"
        for content, holder in ((others + mine, os.getpid()), (others, None)):
            monkeypatch.setattr(Path, "read_text", lambda path, content=content: content)
            assert lock_holder(root) == holder
        monkeypatch.setattr(Path, "read_text", read_text)
        assert lock_holder(root) == os.getpid()
