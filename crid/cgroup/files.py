"""Reading and writing the kernel's control files, cheaply: with 100 containers a listing reads some thousand of them.

A file that is missing, of a cgroup that has just been removed or of a controller that is off (pressure files say
EOPNOTSUPP then), reads as None.
"""

import errno
import os

_SIZE = 16384  # the longest one, memory.stat, has about 2500 bytes
_MISSING = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.EOPNOTSUPP)
UNLIMITED = 1 << 62
"""cgroup v1 says "no limit" with the largest whole number of pages: anything from here on."""


def read(path: str) -> bytes | None:
    """Return what the file says; None if it or its cgroup is missing, or does not support reading. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise
    try:
        return os.read(descriptor, _SIZE)
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise OSError(error.errno, f"read: {error.strerror}", path) from error
    finally:
        os.close(descriptor)


def read_number(path: str) -> int | None:
    """Return the file's one number; None if it is missing, or says that there is no limit."""
    content = read(path)
    if not content or content.startswith(b"max"):
        return None
    number = int(content)
    return None if number >= UNLIMITED else number


def read_table(path: str) -> dict[bytes, int]:
    """Return a file of `key number` lines, empty if it is missing."""
    words = (read(path) or b"").split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def read_long(path: str) -> bytes:
    """Return a file with a line for each process or device, which may be of any length; empty where `read` says None."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno in _MISSING:
            return b""
        raise


def read_pids(path: str) -> list[int]:
    """Return a cgroup.procs; empty if it is missing or its cgroup is threaded (EOPNOTSUPP)."""
    return [int(line) for line in read_long(path).split()]


def write(path: str, value: str) -> None:
    """Write `value` in one write(2). Raises OSError naming the path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {value!r}: {error.strerror}", path) from error
    finally:
        os.close(descriptor)
