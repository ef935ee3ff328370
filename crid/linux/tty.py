"""Terminals: the one thing that a daemon does to a pty that others made (ioctl_tty(2))."""

import fcntl
import struct
import termios


def set_window_size(descriptor: int, *, rows: int, columns: int) -> None:
    """Tell the terminal its size in characters; its foreground processes get SIGWINCH. Sizes are cut to what the kernel
    can hold, and one that is not positive is ignored, as clients send it before they know theirs. Raises OSError."""
    if rows > 0 and columns > 0:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0))
