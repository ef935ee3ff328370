"""What a set of processes has open, from /proc (proc_pid_fd(5)).

Processes come and go while they are counted: one that is gone, or a zombie, counts with nothing open.
"""

import contextlib
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Sums over all processes."""

    processes: int
    file_descriptors: int
    sockets: int
    """Those of the file descriptors that are sockets."""


def process_usage(pids: Iterable[int]) -> ProcessUsage:
    """Count what the processes have open. Blocks for as long as they have many files open: call it on a thread."""
    processes = descriptors = sockets = 0
    for pid in pids:
        processes += 1
        opened = _links(f"/proc/{pid}/fd")
        descriptors += len(opened)
        sockets += sum(link.startswith("socket:") for link in opened)
    return ProcessUsage(processes, descriptors, sockets)


def open_files_limit(pid: int) -> int | None:
    """Return the soft RLIMIT_NOFILE of a process; None if it is gone."""
    try:
        soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except (ProcessLookupError, PermissionError):
        return None
    return soft


def _links(directory: str) -> list[str]:
    links = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # closed meanwhile
                links.append(str(Path(entry.path).readlink()))
    return links
