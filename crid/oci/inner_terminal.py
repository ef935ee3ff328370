"""Resizing the terminal that a runtime made for a command, from outside.

A runtime between our pty and the container's is asked to pass a new size on by SIGWINCH, as a terminal emulator would.
Not all do: crun 1.8 tells the command that the size has changed and leaves it as it was. So the size is set where it
counts, on the container's terminal, which is the standard input of the process below the runtime.
"""

import os
import stat
from pathlib import Path

from crid.linux.tty import set_window_size
from crid.oci import descendants

PTY_SLAVE_MAJORS = range(136, 144)
"""Character devices of Unix98 pty slaves (kernel, admin-guide/devices)."""


def resize_below(runtime: int, outer: os.stat_result, width: int, height: int) -> bool:
    """Set the size of the terminal of the command below the unreaped process `runtime`; `outer` is our own pty, by which the
    runtime is told apart from its command. Return False if there is no such command yet."""
    for command in descendants.children(runtime):
        for number in range(3):
            descriptor = _open_other_pty(f"/proc/{command}/fd/{number}", outer)
            if descriptor >= 0:
                try:
                    set_window_size(descriptor, rows=height, columns=width)
                finally:
                    os.close(descriptor)
                return True
    return False


def _open_other_pty(path: str, outer: os.stat_result) -> int:
    """Return a descriptor of `path` if it is a pty slave and not `outer`, else -1.

    The command is not trusted: nothing but a pty is opened, for opening another device or a fifo might do something.
    """
    try:
        found = Path(path).stat()
        if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) not in PTY_SLAVE_MAJORS:
            return -1
        if (found.st_dev, found.st_rdev) == (outer.st_dev, outer.st_rdev):
            return -1
        return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1  # it has ended
