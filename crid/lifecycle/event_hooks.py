"""The hooks of pods and containers as events for whoever subscribes: created, started, stopped, deleted.

An event carries how the pod and its containers stood right after it, so that its receiver need not ask and cannot be given
the state of a later moment. That is a snapshot of what is in memory; messages are made of it where it is sent. Without a
subscriber nothing is made at all.

A pod is created and started in one step, since nothing of it runs by itself. Events of one object come in this order, each
once; what happened before somebody subscribed, or before the daemon's start, is not told.
"""

import enum
import time
from dataclasses import dataclass

from crid.events.broadcast import Broadcast
from crid.lifecycle.hooks import NoHooks
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from crid.store.memory import Storer


class EventKind(enum.Enum):
    """What happened to a pod or a container."""

    CREATED = "created"
    STARTED = "started"
    STOPPED = "stopped"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class PodEvent:
    """Something that happened to a pod, or to a container of it, and how things stood then."""

    kind: EventKind
    subject: str
    """The id of the container or the pod."""
    at: int
    """Nanoseconds since the epoch."""
    sandbox: PodSandbox | None
    """None for a container whose pod is gone."""
    containers: tuple[Container, ...]
    """The pod's, oldest first."""


class EventHooks(NoHooks):
    """Publishes to `broadcast`."""

    def __init__(self, sandboxes: Storer[PodSandbox], containers: Storer[Container], broadcast: Broadcast[PodEvent]) -> None:
        self._sandboxes = sandboxes
        self._containers = containers
        self._broadcast = broadcast

    async def pod_created(self, sandbox: PodSandbox) -> None:
        self._publish(EventKind.CREATED, sandbox.id, sandbox)
        self._publish(EventKind.STARTED, sandbox.id, sandbox)

    async def pod_stopped(self, sandbox: PodSandbox) -> None:
        self._publish(EventKind.STOPPED, sandbox.id, sandbox)

    async def pod_removed(self, sandbox: PodSandbox) -> None:
        self._publish(EventKind.DELETED, sandbox.id, sandbox)

    async def container_created(self, container: Container) -> None:
        self._publish_of(EventKind.CREATED, container)

    async def container_started(self, container: Container) -> None:
        self._publish_of(EventKind.STARTED, container)

    async def container_stopped(self, container: Container) -> None:
        self._publish_of(EventKind.STOPPED, container)

    async def container_removed(self, container: Container) -> None:
        self._publish_of(EventKind.DELETED, container)

    def _publish_of(self, kind: EventKind, container: Container) -> None:
        if self._broadcast.heard:
            self._publish(kind, container.id, self._sandboxes.find(container.metadata.sandbox_id), container)

    def _publish(self, kind: EventKind, subject: str, sandbox: PodSandbox | None, container: Container | None = None) -> None:
        if not self._broadcast.heard:
            return
        pod = sandbox.id if sandbox is not None else container.metadata.sandbox_id if container is not None else ""
        event = PodEvent(
            kind=kind,
            subject=subject,
            at=time.time_ns(),
            sandbox=PodSandbox(sandbox.metadata, sandbox.status) if sandbox is not None else None,
            containers=tuple(
                Container(item.metadata, item.status) for item in self._containers.list() if item.metadata.sandbox_id == pod
            ),
        )
        self._broadcast.publish(event)
