"""The terminal of a process below a runtime is resized, and nothing else is opened."""

import os
import termios
from pathlib import Path

from crid.linux import process
from crid.oci import descendants, descriptors
from crid.oci.inner_terminal import resize_below
from tests.harness.tools import until


async def resized(stdin: int, outer: int) -> bool:
    """Give the child of a child `stdin`, and resize what is below the child."""
    child = process.spawn(["/bin/sh", "-c", "sleep 4242; true"], descriptors={0: stdin, 1: stdin, 2: stdin})
    try:
        await until(lambda: descendants.children(child.pid), "the command runs")
        return resize_below(child.pid, os.fstat(outer), 91, 37)
    finally:
        descendants.kill_below(child.pid)
        child.kill()
        await child.wait()


async def test_the_command_s_terminal() -> None:
    inner, inner_slave = os.openpty()
    outer, outer_slave = os.openpty()
    with descriptors.closing(inner, inner_slave, outer, outer_slave):
        assert await resized(inner_slave, outer_slave)
        assert termios.tcgetwinsize(inner) == (37, 91)
        assert not await resized(outer_slave, outer_slave)
        assert termios.tcgetwinsize(outer) == (0, 0)


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    outer, outer_slave = os.openpty()
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    null = os.open("/dev/null", os.O_RDWR)
    with descriptors.closing(outer, outer_slave, fifo, null):
        assert not await resized(fifo, outer_slave)
        assert not await resized(null, outer_slave)
