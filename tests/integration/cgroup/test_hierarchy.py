"""The cgroups of the machine that the tests run on: v1 or v2, whichever it has."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crid.cgroup.detect import detect
from crid.cgroup.hierarchy import Hierarchy
from crid.errors import NotFoundError

pytestmark = pytest.mark.root

ROOM = f"crid-test-cgroup-{os.getpid()}"


@pytest.fixture
def hierarchy() -> Iterator[Hierarchy]:
    hierarchy = detect()
    yield hierarchy
    hierarchy.remove(ROOM)
    assert not hierarchy.exists(ROOM)


@contextmanager
def process_in(hierarchy: Hierarchy, path: str, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program in the cgroup; it starts when it is in there, and prints a line when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"input()\n{program}\nprint('ready', flush=True)\nimport time\ntime.sleep(1000)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            hierarchy.add_process(path, process.pid)
            process.stdin.write(b"go\n")
            process.stdin.flush()
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def limit_memory(hierarchy: Hierarchy, path: str, size: int) -> None:
    names = ("memory.max", "memory.swap.max") if hierarchy.unified else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    (directory,) = [each for each in hierarchy.directories(path) if os.access(f"{each}/{names[0]}", os.W_OK)]
    for name, value in zip(names, (size, 0 if hierarchy.unified else size), strict=True):
        with open(f"{directory}/{name}", "w") as file:
            file.write(str(value))


def test_create_is_idempotent_and_gives_controllers_to_children(hierarchy: Hierarchy) -> None:
    for _ in range(2):
        hierarchy.create(f"/{ROOM}/pod")
    assert hierarchy.exists(f"{ROOM}/pod")
    hierarchy.create(f"{ROOM}/pod/a")
    stats = hierarchy.stats(f"{ROOM}/pod/a")
    assert stats.cpu is not None
    assert stats.memory is not None
    assert stats.pids == 0


def test_what_a_process_uses_is_counted_in_its_cgroup_and_above(hierarchy: Hierarchy) -> None:
    hierarchy.create(f"{ROOM}/pod/a")
    before = hierarchy.stats(f"{ROOM}/pod/a")
    with process_in(hierarchy, f"{ROOM}/pod/a", "kept = b'x' * (30 << 20)\nsum(range(3_000_000))") as process:
        assert hierarchy.processes(f"{ROOM}/pod") == [process.pid]
        assert hierarchy.path_of(process.pid) == f"{ROOM}/pod/a"
        assert hierarchy.device_rules_of(process.pid) == (None if hierarchy.unified else f"{ROOM}/pod/a")
        for path in (f"{ROOM}/pod/a", f"{ROOM}/pod"):
            stats = hierarchy.stats(path)
            assert stats.memory is not None
            assert stats.cpu is not None
            assert before.cpu is not None
            assert stats.pids == 1
            assert stats.memory.usage >= stats.memory.working_set >= 30 << 20
            assert stats.cpu.usage > before.cpu.usage + 1_000_000
            assert stats.timestamp > before.timestamp
    assert hierarchy.path_of(process.pid) is None
    assert hierarchy.device_rules_of(process.pid) is None


def test_a_memory_limit_is_seen_and_a_kill_for_it_is_counted(hierarchy: Hierarchy) -> None:
    hierarchy.create(f"{ROOM}/a")
    assert hierarchy.oom_kills(f"{ROOM}/a") == 0
    limit_memory(hierarchy, f"{ROOM}/a", 32 << 20)
    memory = hierarchy.stats(f"{ROOM}/a").memory
    assert memory is not None
    assert (memory.limit, memory.swap_limit) == (32 << 20, 0)
    with process_in(hierarchy, f"{ROOM}/a", "kept = b'x' * (100 << 20)") as process:
        assert process.wait(60) == -9
    assert hierarchy.oom_kills(f"{ROOM}/a") == 1


async def test_removal_waits_for_processes_that_are_ending(hierarchy: Hierarchy) -> None:
    hierarchy.create(f"{ROOM}/a/b")
    with process_in(hierarchy, f"{ROOM}/a/b", "") as process:
        removal = asyncio.create_task(hierarchy.remove_async(f"{ROOM}/a"))
        await asyncio.sleep(0)
        assert hierarchy.exists(f"{ROOM}/a")
        process.kill()
        process.wait()
        await removal
    assert not hierarchy.exists(f"{ROOM}/a")
    with pytest.raises(NotFoundError):
        hierarchy.stats(f"{ROOM}/a")


def test_a_cgroup_in_use_is_not_removed(hierarchy: Hierarchy) -> None:
    hierarchy.create(f"{ROOM}/a")
    with process_in(hierarchy, f"{ROOM}/a", "") as process:
        with pytest.raises(OSError, match=r"rmdir: Device or resource busy"):
            hierarchy.remove(f"{ROOM}/a")
        assert hierarchy.processes(f"{ROOM}/a") == [process.pid]


def test_host_resources_are_what_this_host_has(hierarchy: Hierarchy) -> None:
    assert hierarchy.host_resources().cgroup_v2 == hierarchy.unified


def test_a_process_cannot_be_moved_into_what_is_not_there(hierarchy: Hierarchy) -> None:
    with pytest.raises(FileNotFoundError, match=f"{ROOM}/missing/cgroup.procs"):
        hierarchy.add_process(f"{ROOM}/missing", os.getpid())
