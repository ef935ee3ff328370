"""Mount options as an OCI spec writes them, sorted into mount(2)'s flags, propagation and the file system's own data."""

from collections.abc import Sequence
from dataclasses import dataclass

_BIND, _REC, _REMOUNT = 1 << 12, 1 << 14, 1 << 5
_PRIVATE, _UNBINDABLE, _SLAVE, _SHARED = 1 << 18, 1 << 17, 1 << 19, 1 << 20

_FLAGS = {  # mount(2), <sys/mount.h>; each has a word that sets it and mostly one that clears it
    "ro": (1, "rw"),
    "nosuid": (2, "suid"),
    "nodev": (4, "dev"),
    "noexec": (8, "exec"),
    "sync": (16, "async"),
    "mand": (64, "nomand"),
    "dirsync": (128, ""),
    "nosymfollow": (256, "symfollow"),
    "noatime": (1024, "atime"),
    "nodiratime": (2048, "diratime"),
    "silent": (1 << 15, "loud"),
    "relatime": (1 << 21, "norelatime"),
    "iversion": (1 << 23, "noiversion"),
    "strictatime": (1 << 24, "nostrictatime"),
    "lazytime": (1 << 25, "nolazytime"),
}
_SETTING = {word: flag for word, (flag, _) in _FLAGS.items()}
_CLEARING = {word: flag for flag, word in _FLAGS.values() if word}
_PROPAGATION = {
    "private": _PRIVATE,
    "rprivate": _PRIVATE | _REC,
    "slave": _SLAVE,
    "rslave": _SLAVE | _REC,
    "shared": _SHARED,
    "rshared": _SHARED | _REC,
    "unbindable": _UNBINDABLE,
    "runbindable": _UNBINDABLE | _REC,
}
_KINDS = {"bind": _BIND, "rbind": _BIND | _REC, "remount": _REMOUNT, "defaults": 0}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The sorted options. `propagation` is a call of its own for each; `data` is what the file system gets."""

    set_flags: int = 0
    cleared_flags: int = 0
    kind_flags: int = 0
    propagation: tuple[int, ...] = ()
    data: str = ""

    @property
    def flags(self) -> int:
        """All flags of the first call."""
        return self.kind_flags | self.set_flags

    @property
    def bind(self) -> bool:
        """Whether this is a bind mount."""
        return bool(self.kind_flags & _BIND)

    @property
    def remount(self) -> bool:
        """Whether an existing mount is changed."""
        return bool(self.kind_flags & _REMOUNT)


def parse_options(words: Sequence[str], *, bind: bool = False) -> MountOptions:
    """Sort `words`; where two contradict each other the later one holds. Unknown ones are the file system's data."""
    set_flags = cleared = 0
    kind = _BIND if bind else 0
    propagation: list[int] = []
    data: list[str] = []
    for word in words:
        if word in _SETTING:
            set_flags, cleared = set_flags | _SETTING[word], cleared & ~_SETTING[word]
        elif word in _CLEARING:
            set_flags, cleared = set_flags & ~_CLEARING[word], cleared | _CLEARING[word]
        elif word in _PROPAGATION:
            propagation.append(_PROPAGATION[word])
        elif word in _KINDS:
            kind |= _KINDS[word]
        elif word:
            data.append(word)
    return MountOptions(set_flags, cleared, kind, tuple(propagation), ",".join(data))
