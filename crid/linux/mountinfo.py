"""What is mounted where, as the kernel tells it in /proc/self/mountinfo (proc_pid_mountinfo(5)).

All threads of the daemon are in one mount namespace, so any of them may read it.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo."""

    target: str
    kind: str
    """The file system type."""
    source: str
    device: str
    """The file system's `major:minor`."""
    propagation: frozenset[str] = frozenset()
    """`shared` if its peers get its events, `master` if it gets those of another one (mount_namespaces(7))."""
    options: frozenset[str] = frozenset()
    """The file system's own (`super options`), not those of the mount."""
    root: str = "/"
    """What of the file system is shown, as a path within it."""


def parse(content: bytes) -> list[MountEntry]:
    """Return the mounts in the order in which they were made, later ones covering earlier ones."""
    return [_entry(line) for line in content.splitlines()]


def read() -> list[MountEntry]:
    """Return the mounts of the daemon's mount namespace. Raises OSError."""
    with open("/proc/self/mountinfo", "rb") as file:
        return parse(file.read())


def holding(entries: Sequence[MountEntry], path: str) -> MountEntry:
    """Return the mount that the absolute path `path`, free of links, is on: the deepest, and of those the latest."""
    above = [entry for entry in entries if path == entry.target or path.startswith(entry.target.rstrip("/") + "/")]
    return max(enumerate(above), key=lambda item: (len(item[1].target), item[0]))[1]


def _entry(line: bytes) -> MountEntry:
    # Optional fields of any number stand before the lone dash.
    before, _, after = line.partition(b" - ")
    fields, rest = before.split(b" "), after.split(b" ")
    return MountEntry(
        target=_text(fields[4]),
        kind=_text(rest[0]),
        source=_text(rest[1]),
        device=_text(fields[2]),
        root=_text(fields[3]),
        options=frozenset(_text(rest[2]).split(",")) if len(rest) > 2 else frozenset(),
        propagation=frozenset(_text(word).partition(":")[0] for word in fields[6:]),
    )


def _text(field: bytes) -> str:
    """Undo the kernel's octal escapes of blank, tab, newline and backslash."""
    if b"\\" in field:
        field = _ESCAPE.sub(lambda match: bytes((int(match[1], 8),)), field)
    return os.fsdecode(field)
