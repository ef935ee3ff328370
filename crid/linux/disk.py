"""Disk usage of a directory that a container may be writing to, and the file system that a path is on.

The container is not trusted: a directory may become a link while it is walked, and a tree may be deeper than any path is
long. So each directory is opened with openat2(2) below the last, never through a link.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crid.linux.mount import is_mount_point
from crid.linux.openat2 import open_beneath

_BLOCK = 512  # st_blocks' unit, stat(3type)
_LONG_PATH = 2048
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes that are allocated (not apparent sizes), and the number of inodes."""

    bytes: int
    inodes: int


class _Walk:
    """The sums of one walk, which stays on the file system of its top."""

    def __init__(self, device: int, given_up: Callable[[], bool]) -> None:
        self._device = device
        self._given_up = given_up
        self._linked: set[int] = set()
        self.blocks = 0
        self.inodes = 0

    def count(self, status: os.stat_result, *, directory: bool) -> bool:
        """Add one inode; return False if it is counted already or on another file system."""
        if status.st_dev != self._device:
            return False
        if status.st_nlink > 1 and not directory:
            if status.st_ino in self._linked:
                return False
            self._linked.add(status.st_ino)
        self.blocks += status.st_blocks
        self.inodes += 1
        return True

    def below(self, top: int) -> None:
        """Add what is below the directory open as `top`. What vanishes meanwhile is not counted."""
        pending = ["."]
        while pending:
            if self._given_up():
                raise OSError(errno.ECANCELED, "given up")
            path = pending.pop()
            try:
                descriptor = open_beneath(top, path, _DIRECTORY, follow_symlinks=False)
            except OSError as error:
                if error.errno in _REPLACED:
                    continue
                raise
            try:
                # A path has at most 4096 bytes: start anew from here long before that.
                if len(path) > _LONG_PATH:
                    self.below(descriptor)
                else:
                    pending += self._directories_in(descriptor, path)
            finally:
                os.close(descriptor)

    def _directories_in(self, descriptor: int, path: str) -> list[str]:
        found = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    directory = entry.is_dir(follow_symlinks=False)
                    if self.count(entry.stat(follow_symlinks=False), directory=directory) and directory:
                        found.append(f"{path}/{entry.name}")
                except FileNotFoundError:
                    continue
        return found


def disk_usage(directory: str, *, given_up: Callable[[], bool] = lambda: False) -> DiskUsage:
    """Return what `directory` and everything below it takes, a file with several names counted once, other file systems
    left out. Blocks for as long as the tree is large: call it on a thread. Raises OSError, also (ECANCELED) when `given_up`
    says so, which is asked at each directory."""
    top = os.open(directory, _DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(top)
        walk = _Walk(status.st_dev, given_up)
        walk.count(status, directory=True)
        walk.below(top)
        return DiskUsage(walk.blocks * _BLOCK, walk.inodes)
    finally:
        os.close(top)


def mount_point_of(path: str) -> str:
    """Return where the file system that `path` is on is mounted; the CRI identifies file systems by that. Raises OSError."""
    real = Path(path).resolve(strict=True)
    return next(
        str(directory) for directory in (real, *real.parents) if directory == Path("/") or is_mount_point(str(directory))
    )
