"""Mounts that are made before they are anywhere: clones of trees with mapped owners, and file systems with no place at all.

open_tree(2), mount_setattr(2), fsmount(2) and move_mount(2) work on descriptors, so nobody sees a mount half configured, and
one that is never attached is gone with its descriptor. ID-mapped mounts are as old as Linux 5.12; that an overlay takes
them as layers, as old as 5.19 (mount_setattr(2), "ID-mapped mounts"; kernel, filesystems/overlayfs).
"""

import ctypes
import os
import stat
import struct

from crid.linux.libc import system_call

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_NOSUID_NOEXEC = 0x2 | 0x8
_MOUNT_ATTR_IDMAP = 0x100000
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_ATTRIBUTES = struct.Struct("QQQQ")  # set, cleared, propagation, userns_fd


def mount_idmapped(source: str, target: str, user_namespace: str) -> None:
    """Bind-mount the tree `source` at `target`, its files' owners seen through the map of the namespace file `user_namespace`:
    what belongs to id 0 on disk belongs to whoever is 0 in there.

    What is mounted below `source` is shown as well, with its owners as they are. Raises OSError naming the path; EINVAL
    if the file system cannot do it.
    """
    tree = system_call(
        _OPEN_TREE, "open_tree", _AT_FDCWD, source, _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE, path=source
    )
    try:
        namespace = os.open(user_namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            packed = _ATTRIBUTES.pack(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
            buffer = ctypes.create_string_buffer(packed, _ATTRIBUTES.size)
            system_call(_MOUNT_SETATTR, "mount_setattr", tree, "", _AT_EMPTY_PATH, buffer, _ATTRIBUTES.size, path=source)
        finally:
            os.close(namespace)
        system_call(_MOVE_MOUNT, "move_mount", tree, "", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH, path=target)
    finally:
        os.close(tree)


def open_private_null() -> int:
    """Return a descriptor of a null device that is nobody else's, null(4): whoever changes its owner or mode changes only
    this one. Its tmpfs lives as long as the descriptor and its copies. Raises OSError.
    """
    context = system_call(_FSOPEN, "fsopen", "tmpfs", _FSOPEN_CLOEXEC)
    try:
        system_call(_FSCONFIG, "fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0)
        root = system_call(_FSMOUNT, "fsmount", context, _FSMOUNT_CLOEXEC, _MOUNT_ATTR_NOSUID_NOEXEC)
    finally:
        os.close(context)
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=root)
        os.chmod("null", 0o666, dir_fd=root)
        return os.open("null", os.O_RDWR | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
