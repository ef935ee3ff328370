"""What /proc says of processes that may end at any moment, the very moment of the question included."""

import contextlib
import os
from pathlib import Path

from tests.harness.tools import eventually


def state(pid: int) -> str:
    """The letter of a process's state, X for one that is gone or only waits to be reaped."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return "X" if letter == "Z" else letter


def wait_ended(*pids: int) -> None:
    """Wait until these processes are gone, or only wait to be reaped."""
    eventually(lambda: all(state(pid) == "X" for pid in pids), f"{pids} have ended")


def command(pid: int) -> bytes:
    """The command line of a process, each word with a zero byte after it; nothing of one that has ended.

    Right after a fork it is still that of the parent.
    """
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def naming(words: str | Path) -> list[int]:
    """Return the pids of the processes with `words` in their command lines; a NUL is between two arguments. Who has ended has
    no command line, reaped or not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            if os.fsencode(words) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
