"""The C library, reached through ctypes: nothing outside of crid.linux imports it, and nothing here knows what a call means.

ctypes drops the GIL during a call, so a call that blocks in the kernel does not hold up the event loop's thread, and
`errno` is kept per thread.
"""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

Argument = int | str | bytes | None | ctypes.Array[ctypes.c_char]
"""What a call may be given: numbers are passed as C `long`, strings encoded as file names, None as a null pointer."""


def call(name: str, *arguments: Argument, path: str | None = None) -> int:
    """Call the C library's function `name` and return its result. Raises OSError naming the call and `path` if it is -1."""
    return _checked(getattr(_libc, name)(*map(_encoded, arguments)), name, path)


def system_call(number: int, name: str, *arguments: Argument, path: str | None = None) -> int:
    """Make system call `number`, for which older C libraries have no function. Raises OSError as `call` does.

    Only for numbers from 424 on: those are the same on all architectures but alpha (kernel, scripts/syscall.tbl).
    """
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_encoded, arguments)), name, path)


def _encoded(argument: Argument) -> ctypes.c_long | bytes | ctypes.Array[ctypes.c_char] | None:
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    return os.fsencode(argument) if isinstance(argument, str) else argument


def _checked(result: int, name: str, path: str | None) -> int:
    if result == -1:
        number = ctypes.get_errno()
        message = f"{name}: {os.strerror(number)}"
        raise OSError(number, message) if path is None else OSError(number, message, path)
    return result
