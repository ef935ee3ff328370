"""Which commands run in which container, so that a stop can end them after the container's own process.

A command may outlive the container's process only where the container has no PID namespace of its own; its runtime or
monitor on the host is ours in any case. Once the killing has begun no command is let in: it would be missed.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from crid.errors import FailedPreconditionError
from crid.linux import process
from crid.model.container import Container
from crid.model.ids import short
from crid.oci import descendants


class Executions:
    """The commands running now, by container."""

    def __init__(self) -> None:
        self._running: dict[str, set[int]] = {}
        self._closed: Counter[str] = Counter()

    def admit(self, container: Container) -> None:
        """Raise FailedPreconditionError unless `container` runs and is not being killed."""
        if container.id in self._closed:
            raise FailedPreconditionError(f"container {short(container.id)} is being killed")
        if not process.is_alive(container.status.process):
            raise FailedPreconditionError(f"container {short(container.id)} is not running")

    @contextmanager
    def running(self, container: Container, child: process.Child) -> Iterator[None]:
        """Count `child`, the command's runtime or monitor, among the container's for the block."""
        children = self._running.setdefault(container.id, set())
        children.add(child.pid)
        try:
            yield
        finally:
            children.discard(child.pid)
            if not children:
                self._running.pop(container.id, None)

    @contextmanager
    def closed(self, container: str) -> Iterator[None]:
        """Let no further command in for the block."""
        self._closed[container] += 1
        try:
            yield
        finally:
            self._closed[container] -= 1
            if not self._closed[container]:
                del self._closed[container]

    def kill(self, container: str) -> int:
        """Kill the commands still running in `container`; whoever runs them sees them end. Return how many there were.

        The children counted are unreaped, so their numbers are still theirs.
        """
        return sum(descendants.kill_below(pid) for pid in tuple(self._running.get(container, ())))
