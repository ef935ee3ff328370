"""Mounting and unmounting: mount(2), umount2(2), and a Mount of the model turned into the calls that it takes.

A bind mount takes its flags only in a second call, a remount, and propagation is a call of its own (mount(2), "Creating a
bind mount" and "Changing the propagation type"). `perform` makes them one: if a later call fails the mount is taken away.

mount(2) copies one page of options, which is about thirty layers' paths; an overlay with more goes through the newer
calls in `crid.linux.newmount`.
"""

import ctypes
import errno
import os

from crid.linux import mountinfo, newmount
from crid.linux.libc import call
from crid.linux.options import MountOptions, parse_options
from crid.model.mount import Mount

MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
_OPTIONS_SIZE = 4096 - 1

_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_NO_AUTOMOUNT = -100, 0x100, 0x800
_STATX_SIZE, _STATX_ATTRIBUTES, _STATX_ATTR_MOUNT_ROOT = 256, 8, 0x2000


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError naming `target`."""
    call("mount", source or None, target, kind or None, flags, data or None, path=target)


def unmount(target: str, flags: int = MNT_DETACH | UMOUNT_NOFOLLOW) -> None:
    """umount2(2), by default lazily: the mount is out of sight at once, and gone when its last user is.

    Raises OSError naming `target`; EINVAL if it is not a mount point.
    """
    call("umount2", target, flags, path=target)


def perform(mount_: Mount) -> None:
    """Make the mount that `mount_` describes; its target must exist.

    A bind mount keeps the flags of what it shows, save those that its options name. Raises OSError naming the target, or
    the option that does not exist; nothing is mounted then.
    """
    options = parse_options(mount_.options, bind=mount_.kind == "bind")
    if options.remount:
        mount(mount_.source, mount_.target, mount_.kind, options.flags, options.data)
        return
    _attach(mount_, options)
    try:
        if options.bind and (options.set_flags or options.cleared_flags):
            flags = (_current_flags(mount_.target) | options.set_flags) & ~options.cleared_flags
            mount("", mount_.target, "", MS_REMOUNT | MS_BIND | flags)
        for propagation in options.propagation:
            mount("", mount_.target, "", propagation)
    except OSError:
        unmount(mount_.target)
        raise


def _attach(mount_: Mount, options: MountOptions) -> None:
    if options.bind:
        if options.data:
            raise OSError(errno.EINVAL, f"mount: a bind mount has no option {options.data!r}", mount_.target)
        mount(mount_.source, mount_.target, "", options.flags & (MS_BIND | MS_REC))
    elif len(os.fsencode(options.data)) <= _OPTIONS_SIZE:
        mount(mount_.source, mount_.target, mount_.kind, options.flags, options.data)
    elif mount_.kind == "overlay":
        newmount.mount_overlay(mount_.source, mount_.target, options.set_flags, options.data)
    else:
        raise OSError(errno.E2BIG, "mount: options longer than a page", mount_.target)


def _current_flags(target: str) -> int:
    """Return the mount's flags in mount(2)'s numbers; statvfs has the same, but for relatime."""
    shown = os.statvfs(target).f_flag
    relatime = 1 << 21 if shown & 4096 else 0
    return (shown & (1 | 2 | 4 | 8 | 1024 | 2048)) | relatime


def is_mount_point(path: str) -> bool:
    """Whether something is mounted at exactly `path`; False if there is no such file. A bind mount of a file counts too.

    statx(2) tells it at the cost of one call, however many mounts there are. Raises OSError.
    """
    answer = ctypes.create_string_buffer(_STATX_SIZE)
    try:
        call("statx", _AT_FDCWD, path, _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT, 0, answer, path=path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    attributes = int.from_bytes(answer.raw[_STATX_ATTRIBUTES : _STATX_ATTRIBUTES + 8], "little")
    return bool(attributes & _STATX_ATTR_MOUNT_ROOT)


def mounts_below(path: str) -> list[str]:
    """Return the mount points at `path` and below in the order of mounting; one that is covered twice is there twice.

    Links in `path` are followed, as the kernel lists real paths. Raises OSError.
    """
    top = os.path.realpath(path)
    inside = top.rstrip("/") + "/"
    return [entry.target for entry in mountinfo.read() if entry.target == top or entry.target.startswith(inside)]


def unmount_all_below(path: str) -> None:
    """Unmount whatever is mounted at `path` and below, the latest first, so that a mount goes before what it covers.

    Idempotent. Raises OSError naming the first mount that could not be taken away, after having tried them all.
    """
    failure: OSError | None = None
    for target in reversed(mounts_below(path)):
        try:
            unmount(target)
        except OSError as error:
            # EINVAL, ENOENT: a mount above it, or somebody else, took it along.
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                failure = failure or error
    if failure is not None:
        raise failure
