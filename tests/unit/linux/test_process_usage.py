import gc
import os
import resource
import socket
from pathlib import Path

from crid.linux import process
from crid.linux.process_usage import ProcessUsage, open_files_limit, process_usage
from tests.harness.tools import eventually

NOBODY = 2**22 + 1
"""More than the kernel's largest pid."""


def test_files_and_sockets_of_all_processes() -> None:
    pid = os.getpid()
    gc.collect()  # what an earlier test has left open is closed now
    before = process_usage([pid])
    pair = socket.socketpair()
    with open("/dev/null"):
        after = process_usage([pid])
    for end in pair:
        end.close()
    assert (after.file_descriptors - before.file_descriptors, after.sockets - before.sockets) == (3, 2)
    twice = process_usage([pid, pid])
    assert (twice.processes, twice.sockets) == (2, 2 * before.sockets)
    assert process_usage([]) == ProcessUsage(0, 0, 0)


def test_limit() -> None:
    assert open_files_limit(os.getpid()) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_dead_have_nothing_open() -> None:
    assert process_usage([NOBODY]) == ProcessUsage(1, 0, 0)
    assert open_files_limit(NOBODY) is None
    child = process.spawn(["/bin/true"])
    try:
        stat = Path(f"/proc/{child.pid}/stat")
        eventually(lambda: "Z" in stat.read_text().rpartition(")")[2], "it has ended")
        assert process_usage([child.pid]).file_descriptors == 0
    finally:
        child.end()
