"""The file of a unix socket: taken over from a dead server, never from a living one, and removed only by who made it."""

import socket
import stat
from pathlib import Path

from crid.errors import AlreadyExistsError, UnavailableError


def take_over(path: Path) -> None:
    """Remove a socket that a dead server left, if there is one.

    Raises AlreadyExistsError if its server lives, UnavailableError if it is no socket or that cannot be told.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UnavailableError(f"{path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except BlockingIOError as error:  # connect(2): its backlog is full
        raise AlreadyExistsError(f"another process serves on {path}, and is slow to take connections") from error
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror or error}") from error
    else:
        raise AlreadyExistsError(f"another process serves on {path}")


class SocketFile:
    """The file that has just been bound at `path`, told from one that another process binds there later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = _identity(path)

    def __repr__(self) -> str:
        return f"<SocketFile {self._path}>"

    def remove(self) -> None:
        """Remove it, unless it is gone or another one is there."""
        if _identity(self._path) == self._identity is not None:
            self._path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what no other file at the path has: a number of an inode is used again, but later."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns
