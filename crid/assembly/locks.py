"""One daemon at a time on each directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from crid.config import Config
from crid.errors import AlreadyExistsError

LOCK = "lock"
"""The file in the root directory that its user holds."""


def lock_holder(root: Path) -> int | None:
    """Return the pid of whoever holds the lock on the root directory, None if nobody does (proc_locks(5)). Raises OSError.

    The device there need not be stat(2)'s: btrfs has one for each subvolume. So who locks a file of the same number is asked
    for the files that it has open.
    """
    try:
        lock = (root / LOCK).stat()
    except FileNotFoundError:
        return None
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{lock.st_ino}") and _has_open(pid := int(words[4]), lock):
            return pid
    return None


def _has_open(pid: int, file: os.stat_result) -> bool:
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
            if os.path.samestat(path.stat(), file):
                return True
    return False


@contextlib.contextmanager
def locked(config: Config) -> Iterator[None]:
    """Hold the locks on the root directory and on the images': two daemons on one store would each believe in half of it
    (flock(2)). Raises AlreadyExistsError naming the directory that another crid uses."""
    with contextlib.ExitStack() as held:
        for root in dict.fromkeys(Path(path) for path in (config.root, config.image.imagestore or config.root)):
            while not _lock(root, held):
                pass
        yield


def _lock(root: Path, held: contextlib.ExitStack) -> bool:
    """Lock `root` until `held` ends; return False if what was locked is not its lock any more: a wipe has just removed it."""
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyExistsError(f"another crid uses {root}") from error
    return os.fstat(descriptor).st_nlink > 0
