"""On which CPUs processes run: sched_setaffinity(2)."""

import errno
import logging
import os
from collections.abc import Callable, Collection
from typing import TypeVar

from crid.linux.namespaces import on_fresh_thread
from crid.log import fields
from crid.model import cpus

logger = logging.getLogger(__name__)

T = TypeVar("T")


def restrict(pid: int, allowed: Collection[int]) -> None:
    """Let process `pid`, or with 0 the calling thread, run on `allowed` only; none leave it as it is.

    Where the cpuset that it is in has none of them, which is logged, or the process is gone, it stays as it is, too. Raises
    OSError.
    """
    if not allowed:
        return
    try:
        os.sched_setaffinity(pid, allowed)
    except ProcessLookupError:
        pass
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        logger.warning("a process cannot run on the CPUs meant for it%s", fields(pid=pid, cpus=cpus.to_list(allowed)))


def within(allowed: Collection[int], call: Callable[[], T]) -> T:
    """Return what `call` does, in a thread of its own that runs on `allowed` only, as does whatever it spawns.

    An affinity is a thread's, and inherited: what is spawned is never anywhere else, and the caller stays where it is.
    Raises OSError, and what `call` raises.
    """
    if not allowed:
        return call()

    def run() -> T:
        restrict(0, allowed)
        return call()

    return on_fresh_thread(run, name="affinity")
