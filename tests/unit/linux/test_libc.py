import errno
from pathlib import Path

import pytest

from crid.linux.libc import call, system_call


def test_the_call_and_the_path_are_named(tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=f"chdir: No such file or directory: '{path}'"):
        call("chdir", path, path=path)


def test_without_a_path() -> None:
    with pytest.raises(OSError, match=r"close: Bad file descriptor") as caught:
        call("close", -1)
    assert (caught.value.errno, caught.value.filename) == (errno.EBADF, None)


def test_a_system_call_that_this_kernel_lacks() -> None:
    with pytest.raises(OSError, match="future_call") as caught:
        system_call(9999, "future_call")
    assert caught.value.errno == errno.ENOSYS


def test_large_numbers_are_passed_whole() -> None:
    with pytest.raises(OSError, match="lseek"):
        call("lseek", -1, 1 << 40, 0)
