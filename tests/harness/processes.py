"""Processes of this machine, found by what they run."""

import contextlib
import os
from pathlib import Path


def naming(words: str | Path) -> list[int]:
    """Return the pids of the processes with `words` in their command lines; a NUL is between two arguments. Who has ended has
    no command line, reaped or not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            if os.fsencode(words) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
