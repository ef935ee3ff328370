"""A layer's archive made into a directory that overlayfs takes as a lower layer.

The archive is hostile until proven otherwise. The rules:

* A member's path is resolved by the kernel inside of the layer's own directory (openat2(2), RESOLVE_IN_ROOT), links
  included, so that `var/run/x` below a link `var/run -> /run` lands in the layer's `run`, and no link leads out. A path
  with `..`, a relative link that climbs above the root, and a parent that is a dangling link are refused.
* Files are only ever created (O_EXCL), never opened for writing: what is in the way is removed first, without following
  it. All work is done relative to descriptors of directories.
* `.wh.NAME` becomes overlayfs' whiteout (a character device 0/0), `.wh..wh..opq` its opaque attribute (OCI image-spec,
  layer.md; kernel, filesystems/overlayfs). A device 0/0 or an attribute `trusted.*` in the archive itself would be a
  whiteout in disguise, and is refused or dropped.
* An error names the member. What is half unpacked is the caller's to remove: it works on a staged directory.

Everything here blocks; it runs on a thread, one a layer. System calls and hashing release the GIL.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from crid.errors import CridError, DataLossError, InvalidArgumentError, ResourceExhaustedError
from crid.image.compression import Hashed, decompressed
from crid.image.directories import DIRECTORY, OPAQUE_ATTRIBUTE, Directories, is_whiteout, refused
from crid.image.limits import NO_LIMITS, LayerLimits, Limited
from crid.image.sparse import Segments, placed
from crid.image.tar import ByteSource, Member, TarReader
from crid.linux.disk import disk_usage
from crid.linux.remove import remove_tree

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_BOOKKEEPING = ".wh..wh."
"""AUFS' own files, as old images have them."""
_KEPT_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl_")
"""Others are dropped: labels are the runtime's to give, and trusted.overlay.* is overlayfs' own."""
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096


@dataclass(slots=True)
class Unpacked:
    """What an unpacking made: disk usage (bytes in whole blocks, inodes below the root), and directories that no member
    described, parents first, the root being "."."""

    diff_id: str = ""
    size: int = 0
    inodes: int = 0
    implied: dict[str, None] = field(default_factory=dict)
    opaque: bool = False
    """Whether the layer hides everything below it."""


def unpack(
    source: ByteSource, target: Path, diff_id: str = "", limits: LayerLimits = NO_LIMITS, compressed: int = 0
) -> Unpacked:
    """Unpack the layer `source` (compressed or not) into the empty directory `target`, reading it to its end.

    `compressed` is the size of the source, 0 if it is not known. Raises InvalidArgumentError for a member that tries to
    leave its root or cannot be taken, and beyond the `limits`; DataLossError for a damaged archive or one whose digest is
    not `diff_id`; ResourceExhaustedError for a full disk; each names the member.
    """
    plain = Hashed(decompressed(source), diff_id)
    limited = Limited(plain, limits, compressed)
    reader = TarReader(limited)
    with _Tree(target, limited.count_member) as tree:
        for member in reader:
            limited.count_member()
            try:
                tree.add(member, reader)
            except OSError as error:
                raise _translated(member, error) from error
            except (OverflowError, ValueError) as error:  # what Python does not even hand to the kernel
                raise refused(member, str(error)) from error
        result = tree.finish()
    reader.drain()
    if diff_id and plain.digest != diff_id:
        raise DataLossError(f"layer: its content has the digest {plain.digest}, the image says {diff_id}")
    result.diff_id = plain.digest
    return result


class _Tree:
    """The directory that is being filled. `count` is called for each directory that is made without a member of its own."""

    def __init__(self, target: Path, count: Callable[[], None]) -> None:
        self.result = Unpacked()
        self._target = target
        self._directories = Directories(target, count)
        self._replaced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._directories.close()

    def add(self, member: Member, reader: TarReader) -> None:
        """Create what `member` describes. Raises OSError, CridError."""
        path = _safe_path(member.name, member)
        if not path:
            self._describe_root(member)
            return
        parent, _, name = path.rpartition("/")
        if _WHITEOUT in parent and any(part.startswith(_WHITEOUT) for part in parent.split("/")):
            if any(part.startswith(_BOOKKEEPING) for part in parent.split("/")):
                return
            raise refused(member, "the path leads through a whiteout")
        directory = self._directories.get(parent, member)
        if name.startswith(_WHITEOUT):
            self._whiteout(directory, name, member)
        elif member.kind == "5":
            self._make_directory(directory, name, path, member)
        else:
            self._create(directory, name, member, reader)

    def finish(self) -> Unpacked:
        """Return what was made. It is counted again if a member has replaced another, of which perhaps a link remains."""
        made = self._directories.made
        self.result.implied = made.paths
        self.result.inodes += made.inodes
        self.result.size += made.inodes * _BLOCK
        if self._replaced or made.replaced:
            usage = disk_usage(str(self._target))
            self.result.size, self.result.inodes = usage.bytes, usage.inodes - 1
        return self.result

    def _describe_root(self, member: Member) -> None:
        if member.kind != "5":
            raise refused(member, "only a directory can be the root")
        _set_attributes(self._directories.root, member)
        self._directories.described("", self._directories.root, member.mtime_ns)

    def _make_directory(self, parent: int, name: str, path: str, member: Member) -> None:
        opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            self.result.inodes += 1
            self.result.size += _BLOCK
        except FileExistsError:
            status = os.lstat(name, dir_fd=parent)
            if not stat.S_ISDIR(status.st_mode):
                opaque = is_whiteout(status)
                self._clear(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            _set_attributes(descriptor, member)
            if opaque:
                os.setxattr(descriptor, OPAQUE_ATTRIBUTE, b"y")
            self._directories.described(path, descriptor, member.mtime_ns)
        finally:
            os.close(descriptor)

    def _create(self, parent: int, name: str, member: Member, reader: TarReader) -> None:
        """Create anything but a directory, replacing what has its name."""
        try:
            self._create_new(parent, name, member, reader)
        except FileExistsError:
            self._clear(parent, name)
            self._create_new(parent, name, member, reader)
        if member.kind != "1":
            self.result.inodes += 1
            stored = member.size if member.segments is None else sum(length for _, length in member.segments)
            self.result.size += -(-stored // _BLOCK) * _BLOCK

    def _create_new(self, parent: int, name: str, member: Member, reader: TarReader) -> None:
        if member.kind == "0":
            _write_file(parent, name, member, reader)
            return
        if member.kind == "1":
            self._hard_link(parent, name, member)
            return
        if member.kind == "2":
            _check_link(member)
            os.symlink(member.link, name, dir_fd=parent)
        elif member.kind == "6":
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif member.kind in "34":
            if member.kind == "3" and (member.major, member.minor) == (0, 0):
                raise refused(member, "a character device 0/0 would hide a file of a lower layer")
            kind = stat.S_IFCHR if member.kind == "3" else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(member.major, member.minor), dir_fd=parent)
        else:
            raise refused(member, f"type {member.kind!r} is not known")
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if member.kind != "2":
            os.chmod(name, member.mode, dir_fd=parent)
        if member.xattrs:
            _set_xattrs(f"/proc/self/fd/{parent}/{name}", member)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _hard_link(self, parent: int, name: str, member: Member) -> None:
        path = _safe_path(member.link, member)
        source_parent, _, source = path.rpartition("/")
        if not source:
            raise refused(member, "a hard link to the root")
        missing = refused(member, f"the hard link's target {member.link[:300]!r} is not in this layer")
        try:
            # A descriptor of its own: finding it may push `parent` out of the open ones.
            directory = self._directories.find(source_parent)
        except FileNotFoundError as error:
            raise missing from error
        try:
            if is_whiteout(os.lstat(source, dir_fd=directory)):
                raise missing
            os.link(source, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise missing from error
        finally:
            os.close(directory)

    def _whiteout(self, parent: int, name: str, member: Member) -> None:
        if name == _OPAQUE:
            os.setxattr(parent, OPAQUE_ATTRIBUTE, b"y")
            self.result.opaque |= parent == self._directories.root
            return
        hidden = name.removeprefix(_WHITEOUT)
        if name.startswith(_BOOKKEEPING):
            return
        if hidden in ("", ".", ".."):
            raise refused(member, "a whiteout of nothing, or of a directory above")
        try:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            self.result.inodes += 1
        except FileExistsError:
            # This layer's own file stays, and hides the lower one anyway; its own directory must hide the lower one's files.
            if stat.S_ISDIR(os.lstat(hidden, dir_fd=parent).st_mode):
                descriptor = os.open(hidden, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    os.setxattr(descriptor, OPAQUE_ATTRIBUTE, b"y")
                finally:
                    os.close(descriptor)

    def _clear(self, parent: int, name: str) -> None:
        """Remove what has the name `name`, be it a directory with all in it. Links are not followed."""
        self._replaced = True
        remove_tree(name, dir_fd=parent)
        self._directories.let_go_but(parent)


def _safe_path(name: str, member: Member) -> str:
    """Return `name` relative to the root, without empty and `.` components. Raises InvalidArgumentError if it has `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refused(member, f"the path {name[:300]!r} climbs with '..'")
    return "/".join(parts)


def _check_link(member: Member) -> None:
    """Refuse a relative symbolic link that climbs above the root where it stands; nothing may follow it on the host."""
    if not member.link:
        raise refused(member, "a symbolic link to nothing")
    if member.link.startswith("/"):
        return  # means the container's root
    depth = len([part for part in member.name.split("/") if part not in ("", ".")]) - 1
    for part in member.link.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise refused(member, f"the link to {member.link[:300]!r} leads out of the root")


def _write_file(parent: int, name: str, member: Member, reader: TarReader) -> None:
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
    try:
        if member.segments is None:
            for piece in reader.content():
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
        else:
            _write_sparse(descriptor, member.segments, reader)
            os.ftruncate(descriptor, member.size)
        _set_attributes(descriptor, member)
        os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))
    finally:
        os.close(descriptor)


def _write_sparse(descriptor: int, segments: Segments, reader: TarReader) -> None:
    for offset, piece in placed(reader.content(), segments):
        while piece:
            written = os.pwrite(descriptor, piece, offset)
            offset, piece = offset + written, piece[written:]


def _set_attributes(descriptor: int, member: Member) -> None:
    """Set owner, mode and extended attributes, in this order: a change of owner drops setuid bits and capabilities."""
    os.fchown(descriptor, member.uid, member.gid)
    os.fchmod(descriptor, member.mode)
    if member.xattrs:
        _set_xattrs(descriptor, member)


def _set_xattrs(target: int | str, member: Member) -> None:
    follow = isinstance(target, int)
    for name, value in member.xattrs.items():
        if not name.startswith(_KEPT_ATTRIBUTES):
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            # A file system without attributes, or a kind of file that takes none; a lost capability is an error.
            if name.startswith("security.") or error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def _translated(member: Member, error: OSError) -> CridError:
    message = f"layer member {member.name[:300]!r}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENFILE, errno.EMFILE):
        return ResourceExhaustedError(message)
    return InvalidArgumentError(message)
