"""What a layer's own directory takes over from the layers below, when it is put on them.

In an overlay the uppermost directory's attributes are the ones that are seen, and a root directory always shows all that is
below: overlayfs heeds no opaque attribute there. What an archive means by leaving a directory out, or by a whiteout of the
whole root, is therefore written into the layer itself. Links are followed nowhere: in a layer they are its author's.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from crid.linux.openat2 import open_beneath
from crid.model.idmap import IdMap


def hide(diff: Path, below: Sequence[Path]) -> int:
    """Let the root `diff` show nothing of the directories `below`. Returns how many inodes that took. Raises OSError."""
    made = 0
    for name in {path.name for lower in below for path in lower.iterdir()}:
        try:
            os.mknod(diff / name, stat.S_IFCHR, os.makedev(0, 0))
            made += 1
        except FileExistsError:
            if stat.S_ISDIR((diff / name).lstat().st_mode):
                os.setxattr(diff / name, "trusted.overlay.opaque", b"y")
    return made


def inherit(diff: Path, name: str, below: Sequence[Path]) -> None:
    """Give the directory `name` in `diff` the attributes it has in the uppermost of the directories `below`. Raises OSError."""
    with contextlib.ExitStack() as stack:
        try:
            target = stack.enter_context(directory_beneath(diff, name))
            for lower in below:
                with contextlib.suppress(FileNotFoundError):
                    copy_attributes(stack.enter_context(directory_beneath(lower, name)), target)
                    return
        except OSError as error:
            # The layer has put something else there since, or a lower one has a link or a whiteout: nothing to inherit.
            if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
                raise


@contextlib.contextmanager
def directory_beneath(root: Path, name: str) -> Iterator[int]:
    """Open the directory `name` of `root` for the block. Raises OSError, ELOOP where a link is in the way."""
    descriptor = open_beneath(root, name, os.O_RDONLY | os.O_DIRECTORY, follow_symlinks=False)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy_attributes(source: int, target: int, idmap: IdMap | None = None) -> None:
    """Give the directory open as `target` owner (as `idmap` maps it), mode, extended attributes and times of `source`."""
    status = os.fstat(source)
    owner = (status.st_uid, status.st_gid)
    os.fchown(target, *(idmap.to_host(*owner) if idmap else owner))
    os.fchmod(target, status.st_mode & 0o7777)
    for attribute in os.listxattr(source):
        if not attribute.startswith("trusted.overlay."):
            with contextlib.suppress(OSError):  # one that this file system does not take
                os.setxattr(target, attribute, os.getxattr(source, attribute))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
