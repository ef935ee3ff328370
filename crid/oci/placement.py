"""Placement: in which cgroup the processes run that hold a container's output, and on which CPUs its commands begin.

The runtime calls this at the moment when nothing has been forked yet; it does not know what cgroups are. Errors are CridError.
"""

from typing import Protocol

from crid.model.container import Container


class Placement(Protocol):
    """Of one runtime handler's monitors."""

    exec_in_container: bool
    """Whether `place_exec` is to be called."""

    async def place_monitor(self, container: Container, pid: int) -> None:
        """Put the monitor of `container`, which waits for its start byte, where it belongs."""

    def place_exec(self, container: Container, pid: int) -> None:
        """Put the monitor of a command in `container`, which waits likewise, into the container's cgroup."""

    async def remove(self, container: Container) -> None:
        """Remove what `place_monitor` has made; the monitor has ended. Idempotent."""


class WithDaemon(Placement):
    """Monitors stay in the daemon's cgroup."""

    exec_in_container = False

    async def place_monitor(self, container: Container, pid: int) -> None:
        pass

    def place_exec(self, container: Container, pid: int) -> None:
        pass

    async def remove(self, container: Container) -> None:
        pass
