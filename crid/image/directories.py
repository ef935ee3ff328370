"""The directories of a layer that is being unpacked: found, or made, by path; a few of them held open.

A path is resolved by the kernel inside of the layer's root (openat2(2), RESOLVE_IN_ROOT), links included. Filling a
directory changes its time, so the time that it had, or was given since, is set again when it is let go. What is held, in
descriptors and in memory, does not grow with the layer.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from crid.errors import InvalidArgumentError
from crid.image.tar import Member
from crid.linux.openat2 import open_in_root

OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HELD = 64
"""Descriptors of directories kept open by one unpacking."""
_IMPLIED_LIMIT = 32 << 20
"""Bytes of the paths of directories that no member describes: they are remembered until the layer is committed."""
_ENTRY_BYTES = 100


@dataclass(slots=True)
class _Inode:
    """A directory that is held, perhaps by several paths: a link may lead to it."""

    number: int
    time_ns: int
    """What is to be its time in the end."""
    paths: int = 0


@dataclass(slots=True)
class _Held:
    descriptor: int
    inode: _Inode


@dataclass(slots=True)
class Made:
    """What was made without a member that describes it. `paths`: parents first, the root being "."."""

    paths: dict[str, None] = field(default_factory=lambda: {".": None})
    inodes: int = 0
    replaced: bool = False
    """Whether one took the place of a whiteout."""


class Directories:
    """Those of one layer. `count` is called for each that is made and may refuse it."""

    def __init__(self, target: Path, count: Callable[[], None]) -> None:
        self.root = os.open(target, DIRECTORY)
        self.made = Made()
        self._count = count
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._inodes: dict[int, _Inode] = {}
        self._remembered = 0
        self._hold("", self.root)

    def __repr__(self) -> str:
        return f"<Directories held={len(self._held)} made={len(self.made.paths)}>"

    def get(self, path: str, member: Member) -> int:
        """Return a descriptor of the directory `path` ("" is the root), making what of it is missing. It stays this
        object's, and valid until the next call. Raises InvalidArgumentError naming `member`, OSError."""
        missing: list[str] = []
        while (descriptor := self._existing(path)) is None:
            missing.append(path)
            path = path.rpartition("/")[0]
        for below in reversed(missing):
            descriptor = self._hold(below, self._make(descriptor, below, member))
        return descriptor

    def _existing(self, path: str) -> int | None:
        held = self._held.get(path)
        if held is not None:
            self._held.move_to_end(path)
            return held.descriptor
        try:
            return self._hold(path, open_in_root(self.root, path, DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def find(self, path: str) -> int:
        """Return a descriptor of the directory `path`, which the caller closes. Raises OSError."""
        return open_in_root(self.root, path or ".", DIRECTORY)

    def described(self, path: str, descriptor: int, time_ns: int) -> None:
        """Give the directory open as `descriptor`, which a member describes, its time, now and after it was filled."""
        os.utime(descriptor, ns=(time_ns, time_ns))
        if (inode := self._inodes.get(os.fstat(descriptor).st_ino)) is not None:
            inode.time_ns = time_ns
        self.made.paths.pop(path or ".", None)

    def let_go_but(self, descriptor: int) -> None:
        """Forget all other descriptors: paths may have led through what was just removed."""
        for path in [path for path, held in self._held.items() if path and held.descriptor != descriptor]:
            self._let_go(self._held.pop(path))

    def close(self) -> None:
        """Set the times of what is held, and close it."""
        while self._held:
            self._let_go(self._held.popitem()[1])

    def _hold(self, path: str, descriptor: int) -> int:
        status = os.fstat(descriptor)
        inode = self._inodes.setdefault(status.st_ino, _Inode(status.st_ino, status.st_mtime_ns))
        inode.paths += 1
        self._held[path] = _Held(descriptor, inode)
        if len(self._held) > _HELD:
            self._held.move_to_end("")  # the root stays
            self._let_go(self._held.popitem(last=False)[1])
        return descriptor

    def _let_go(self, held: _Held) -> None:
        inode = held.inode
        inode.paths -= 1
        if not inode.paths:
            del self._inodes[inode.number]
            os.utime(held.descriptor, ns=(inode.time_ns, inode.time_ns))
        os.close(held.descriptor)

    def _make(self, parent: int, path: str, member: Member) -> int:
        """Make the directory `path`, which the archive uses without describing it, in `parent`; return a descriptor."""
        name = path.rpartition("/")[2]
        self._count()
        self._remembered += len(path) + _ENTRY_BYTES
        if self._remembered > _IMPLIED_LIMIT:
            raise refused(member, "too many directories without an entry of their own")
        opaque = False
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError as error:
            status = os.lstat(name, dir_fd=parent)
            if not is_whiteout(status):
                what = "a link that leads nowhere" if stat.S_ISLNK(status.st_mode) else "not a directory"
                raise refused(member, f"{path[:300]!r} is {what}") from error
            self.made.replaced = opaque = True
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o755, dir_fd=parent)
        self.made.paths[path] = None
        self.made.inodes += 1
        descriptor = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        if opaque:
            os.setxattr(descriptor, OPAQUE_ATTRIBUTE, b"y")
        return descriptor


def refused(member: Member, reason: str) -> InvalidArgumentError:
    """Return the error that refuses `member`."""
    return InvalidArgumentError(f"layer member {member.name[:300]!r}: {reason}")


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlayfs' whiteout, a character device 0/0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
