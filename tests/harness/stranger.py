"""A process with a number of the test's choice: somebody who comes after another has gone, as when numbers are used again."""

import contextlib
import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

PATIENCE = 30.0
"""Seconds for the number to be free: whoever had it may have to be reaped yet."""
_CLONE3 = 435
_EXIT_SIGNAL = 17
_ARGUMENTS = struct.Struct("=11Q")  # struct clone_args (clone3(2))


@contextlib.contextmanager
def stranger(pid: int) -> Iterator[subprocess.Popen[str]]:
    """Have a process with the number `pid` for the block, which does nothing; its parent, which is yielded, ends with it."""
    with subprocess.Popen([sys.executable, "-m", __name__, str(pid)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = parent.stdout.readline().strip()
        if said == str(errno.EPERM):
            pytest.skip("nobody may choose a process's number here")
        assert said == "0", f"clone3: {said and os.strerror(int(said))}"
        try:
            yield parent
        finally:
            if parent.poll() is None:  # so the number is its child's still
                os.kill(pid, signal.SIGKILL)


def main(pid: int) -> None:
    """Make the child, say what came of it, and wait for its end."""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = (ctypes.c_int * 1)(pid)
    arguments = ctypes.create_string_buffer(_ARGUMENTS.pack(0, 0, 0, 0, _EXIT_SIGNAL, 0, 0, 0, ctypes.addressof(wanted), 1, 0))
    deadline = time.monotonic() + PATIENCE
    while (child := libc.syscall(_CLONE3, arguments, _ARGUMENTS.size)) < 0:
        if ctypes.get_errno() != errno.EEXIST or time.monotonic() > deadline:
            print(ctypes.get_errno(), flush=True)
            return
        time.sleep(0.02)
    if child == 0:
        os.execv("/bin/sleep", ["sleep", "1000"])
    print(0, flush=True)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
