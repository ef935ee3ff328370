import os
import termios
from collections.abc import Iterator

import pytest

from crid.linux import tty


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = os.openpty()
    yield ours
    os.close(ours)
    os.close(theirs)


def test_size(terminal: int) -> None:
    tty.set_window_size(terminal, rows=50, columns=132)
    assert termios.tcgetwinsize(terminal) == (50, 132)


@pytest.mark.parametrize(("rows", "columns"), [(0, 80), (24, 0), (-1, -1)])
def test_a_size_that_is_none_changes_nothing(terminal: int, rows: int, columns: int) -> None:
    tty.set_window_size(terminal, rows=24, columns=80)
    tty.set_window_size(terminal, rows=rows, columns=columns)
    assert termios.tcgetwinsize(terminal) == (24, 80)


def test_a_size_beyond_the_kernels_is_cut(terminal: int) -> None:
    tty.set_window_size(terminal, rows=1 << 20, columns=80)
    assert termios.tcgetwinsize(terminal) == (0xFFFF, 80)


def test_no_terminal() -> None:
    descriptor = os.open("/dev/null", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="Inappropriate ioctl"):
            tty.set_window_size(descriptor, rows=1, columns=1)
    finally:
        os.close(descriptor)
