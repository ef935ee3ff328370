"""Ending a process with everything below it.

A runtime or a monitor that is cut off halfway leaves children of its own: a half-made container, an exec'd command. The
kernel lists a living process's children (proc_pid_task_children(5)), so they are found without anybody's pid file. A
child whose parent dies goes to the nearest subreaper above; the walk is therefore repeated until nothing is left of it.
"""

import asyncio
import os

from crid.linux import process
from crid.model.process import ProcessIdentity

SIGKILL = 9
PAUSE = 0.01


def children(pid: int) -> list[int]:
    """Return the pids of the children of `pid`, of all its threads; empty if it is gone."""
    found: list[int] = []
    try:
        threads = [entry.name for entry in os.scandir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(word) for word in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descendants(pid: int) -> list[ProcessIdentity]:
    """Return the living processes below `pid`, parents before their children."""
    found: list[ProcessIdentity] = []
    queue = children(pid)
    while queue:
        child = queue.pop(0)
        if (identity := process.identify(child)) is not None:
            found.append(identity)
            queue += children(child)
    return found


def kill_below(pid: int) -> int:
    """Send SIGKILL to everything below `pid` and return how many processes got it."""
    return sum(process.send_signal(identity, SIGKILL) for identity in descendants(pid))


async def end_below(pid: int, *, timeout: float) -> bool:
    """Kill everything below `pid`, again and again while more appears; return whether nothing is left after `timeout` s."""
    deadline = asyncio.get_running_loop().time() + timeout
    while kill_below(pid):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(PAUSE)
    return True
