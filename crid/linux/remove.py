"""Deleting a tree that somebody else has made: an image's layer, what a container wrote.

Such a tree may be deeper than any path is long and than Python may recurse, which shutil.rmtree does. Here nothing recurses:
directories are walked on descriptors, never through a link nor into a mount, and one that is deeper than `_DEPTH` is first
moved to the top, so that the number of descriptors is bounded.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from crid.linux.openat2 import open_on_same_mount

_DEPTH = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Level:
    """A directory that is being emptied, by its name in the one above."""

    name: str
    descriptor: int
    pending: list[str] = field(default_factory=list)
    """Its directories, which are still to be emptied."""


def remove_tree(path: Path | str, *, dir_fd: int | None = None) -> None:
    """Delete `path`, relative to `dir_fd` if given, and all below it if it is a directory. Idempotent. Blocks.

    Deletes what it can and then raises the first OSError, such as EXDEV for what is mounted in the tree, which stays.
    """
    try:
        os.unlink(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        top = os.open(path, _DIRECTORY, dir_fd=dir_fd)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(path, dir_fd=dir_fd)


def _empty(top: int) -> None:
    failures: list[OSError] = []
    levels = [_Level("", top)]
    try:
        _unlink_files(levels[0], failures)
        while len(levels) > 1 or levels[0].pending:
            level = levels[-1]
            if level.pending:
                _descend(levels, level.pending.pop(), failures)
            else:
                levels.pop()
                os.close(level.descriptor)
                _attempt(_rmdir, level.name, levels[-1].descriptor, failures)
    finally:
        for level in levels[1:]:
            os.close(level.descriptor)
    if failures:
        raise failures[0]


def _descend(levels: list[_Level], name: str, failures: list[OSError]) -> None:
    """Go on in the directory `name` of the lowest level, or have it moved to the top for later."""
    parent = levels[-1].descriptor
    if len(levels) > _DEPTH:
        moved = f".removed-{secrets.token_hex(8)}"
        try:
            os.rename(name, moved, src_dir_fd=parent, dst_dir_fd=levels[0].descriptor)
        except OSError:
            pass  # overlayfs moves no directory of a lower layer: go down after all
        else:
            levels[0].pending.append(moved)
            return
    try:
        level = _Level(name, open_on_same_mount(parent, name, _DIRECTORY))
    except FileNotFoundError:
        return
    except OSError as error:
        failures.append(error)
        return
    levels.append(level)
    _unlink_files(level, failures)


def _unlink_files(level: _Level, failures: list[OSError]) -> None:
    with os.scandir(level.descriptor) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                level.pending.append(entry.name)
            else:
                _attempt(_unlink, entry.name, level.descriptor, failures)


def _attempt(remove: Callable[[str, int], None], name: str, parent: int, failures: list[OSError]) -> None:
    try:
        remove(name, parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        failures.append(error)


def _rmdir(name: str, parent: int) -> None:
    os.rmdir(name, dir_fd=parent)


def _unlink(name: str, parent: int) -> None:
    os.unlink(name, dir_fd=parent)
