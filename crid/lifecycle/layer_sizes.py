"""How much each container has written into its root file system.

That takes a walk of the writable layer, which is as long as the container cares to make it. So walks go on beside the
requests, one at a time for a layer and WALKS in all: a request waits at most PATIENCE seconds for those that it is the first
to want, and otherwise gets what the last walk has found. A busy layer's figure is MAX_AGE seconds old, and as much older as
its walk takes.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from crid.linux import disk
from crid.tasks import Supervisor

MAX_AGE = 10.0
"""Seconds for which a size is good."""

PATIENCE = 1.0
"""Seconds; a kubelet waits for a whole list of statistics and has two minutes for it, and crictl has two seconds."""

WALKS = 2


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Size of a writable layer. `timestamp` is nanoseconds since the epoch, taken when its walk ended."""

    timestamp: int
    used_bytes: int
    inodes: int
    mountpoint: str


class LayerSizes:
    """The sizes that are known. `upper` tells where the layer of a container is. Used on the event loop."""

    def __init__(self, supervisor: Supervisor, upper: Callable[[str], Path]) -> None:
        self._supervisor = supervisor
        self._upper = upper
        self._known: dict[str, tuple[float, DiskUsage | None]] = {}
        self._walks: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(WALKS, thread_name_prefix="crid-layer-size")
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<LayerSizes known={len(self._known)} walks={len(self._walks)}>"

    def close(self) -> None:
        """Give up all walks."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def of(self, identifiers: Iterable[str]) -> Mapping[str, DiskUsage | None]:
        """Return the sizes of the layers of these containers; None for one that is gone, or whose first walk still goes on."""
        wanted = list(identifiers)
        too_old = time.monotonic() - MAX_AGE
        for identifier in wanted:
            known = self._known.get(identifier)
            if identifier not in self._walks and (known is None or known[0] <= too_old):
                self._walks[identifier] = self._supervisor.start(self._walk(identifier), f"size of {identifier}")
        if walks := [self._walks[identifier] for identifier in wanted if identifier in self._walks]:
            await asyncio.wait(walks, timeout=PATIENCE)
        return {identifier: self._known[identifier][1] if identifier in self._known else None for identifier in wanted}

    def keep_only(self, identifiers: Collection[str]) -> None:
        """Forget all other containers."""
        for identifier in self._known.keys() - identifiers:
            del self._known[identifier]

    async def _walk(self, identifier: str) -> None:
        try:
            usage = await asyncio.get_running_loop().run_in_executor(self._threads, self._measure, identifier)
            self._known[identifier] = time.monotonic(), usage
        finally:
            del self._walks[identifier]

    def _measure(self, identifier: str) -> DiskUsage | None:
        directory = str(self._upper(identifier))
        try:
            used = disk.disk_usage(directory, given_up=self._closed.is_set)
            return DiskUsage(time.time_ns(), used.bytes, used.inodes, disk.mount_point_of(directory))
        except OSError:
            return None
