"""Files that are either the old or the new version, never half of one."""

import errno
import os
import stat
import tempfile
from pathlib import Path

from crid.linux import libc

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def write_atomic(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write `content` to a temporary name beside `path` and rename it, so that a reader or a crash of the daemon sees all
    or nothing.

    With `durable` the content and the rename are also flushed to the disk, so that a power cut sees the same. Raises
    OSError naming `path`; the temporary file is then gone.
    """
    try:
        _write_atomic(path, content, mode=mode, durable=durable)
    except OSError as error:
        error.filename = str(path)  # not the temporary name, and not nothing, as write(2) would have it
        del error.filename2  # setting it to None would show None as a second name
        raise


def _write_atomic(path: Path, content: bytes, *, mode: int, durable: bool) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, mode)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if durable:
        sync_directory(path.parent)


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file that somebody else has named: no device, which may have no end, no pipe, which may have no writer.

    Raises OSError naming `path`: EINVAL for another kind of file, EFBIG for one of more than `limit` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes", str(path))
    return content


def says_nothing(error: Exception) -> bool:
    """Whether an attempt to read has failed with `error` only because the machine has no more of something now: the file may be
    whole, and is to be read later."""
    return isinstance(error, OSError) and error.errno in _EXHAUSTED


def remove_unfinished(directory: Path) -> None:
    """Delete what a `write_atomic` that was killed has left in `directory`. Nobody may be writing there. Raises OSError."""
    for path in directory.glob(".*.*"):
        if path.is_file():
            path.unlink()


def sync_directory(path: Path) -> None:
    """Flush the names in directory `path` to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Write all that is dirty on the file system of directory `path` to the disk (syncfs(2)). May take long. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc.call("syncfs", descriptor, path=str(path))
    finally:
        os.close(descriptor)
