"""Opening a path that somebody else wrote (an image, a container) without leaving the directory it belongs to: openat2(2).

The kernel resolves every component, links included, inside of the root, so no check can be raced. It is as old as
Linux 5.6; there is no fallback, since a wrong one is a hole.
"""

import ctypes
import errno
import os
import struct
from pathlib import Path

from crid.linux.libc import system_call

_OPENAT2 = 437
_HOW = struct.Struct("QQQ")  # flags, mode, resolve
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _IN_ROOT = 0x01, 0x02, 0x04, 0x08, 0x10
_ATTEMPTS = 128


def open_in_root(root: Path | int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process would whose root directory is `root` (a path or a descriptor): absolute paths and links, and
    `..` at the top, stay inside. Returns a close-on-exec descriptor. `mode` counts only with O_CREAT or O_TMPFILE.

    Raises OSError naming `path`.
    """
    return _open(root, path, flags, mode, _IN_ROOT | _NO_MAGICLINKS)


def open_beneath(root: Path | int, path: str, flags: int, mode: int = 0, *, follow_symlinks: bool = True) -> int:
    """Like `open_in_root`, but a path that would lead out of `root` (an absolute one too) fails with EXDEV, and without
    `follow_symlinks` one that goes through a link with ELOOP."""
    return _open(root, path, flags, mode, _BENEATH | (_NO_MAGICLINKS if follow_symlinks else _NO_SYMLINKS))


def open_on_same_mount(root: int, path: str, flags: int) -> int:
    """Like `open_beneath` without following links, but a path that enters another mount, be it of the same file system,
    fails with EXDEV."""
    return _open(root, path, flags, 0, _BENEATH | _NO_SYMLINKS | _NO_XDEV)


def _open(root: Path | int, path: str, flags: int, mode: int, resolve: int) -> int:
    if not isinstance(root, int):
        descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _open(descriptor, path, flags, mode, resolve)
        finally:
            os.close(descriptor)
    creates = flags & (os.O_CREAT | (os.O_TMPFILE & ~os.O_DIRECTORY))
    how = ctypes.create_string_buffer(_HOW.pack(flags | os.O_CLOEXEC, mode if creates else 0, resolve), _HOW.size)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return system_call(_OPENAT2, "openat2", root, path, how, _HOW.size, path=path)
        except OSError as error:
            # The kernel could not rule out that a rename elsewhere moved a `..` on the way: it asks to try again.
            if error.errno != errno.EAGAIN or attempt == _ATTEMPTS:
                raise
    raise AssertionError("the loop returns or raises")
