"""The event stream, on which a kubelet with an evented PLEG lives instead of asking for lists (KEP-3386)."""

from collections.abc import AsyncIterator

from crid.cri import api_pb2 as cri
from crid.events.broadcast import Broadcast
from crid.lifecycle.event_hooks import EventKind, PodEvent
from crid.server import translate_pods
from crid.server.typing import Context

KINDS = {
    EventKind.CREATED: cri.CONTAINER_CREATED_EVENT,
    EventKind.STARTED: cri.CONTAINER_STARTED_EVENT,
    EventKind.STOPPED: cri.CONTAINER_STOPPED_EVENT,
    EventKind.DELETED: cri.CONTAINER_DELETED_EVENT,
}


class EventRpcs:
    """GetContainerEvents."""

    _events: Broadcast[PodEvent]

    async def GetContainerEvents(
        self, request: cri.GetEventsRequest, context: Context
    ) -> AsyncIterator[cri.ContainerEventResponse]:
        """Tell what happens to pods and containers from now on; the headers say that the stream has begun."""
        with self._events.subscribe() as subscription:
            context.add_done_callback(lambda _: subscription.close())  # type: ignore[arg-type]  # the stub wants a class
            await context.send_initial_metadata(())
            async for event in subscription:
                yield event_message(event)


def event_message(event: PodEvent) -> cri.ContainerEventResponse:
    """Return the event with the statuses of its moment."""
    message = cri.ContainerEventResponse(
        container_id=event.subject,
        container_event_type=KINDS[event.kind],
        created_at=event.at,
        containers_statuses=[translate_pods.container_status(container) for container in event.containers],
    )
    if event.sandbox is not None:
        message.pod_sandbox_status.CopyFrom(translate_pods.sandbox_status(event.sandbox))
    return message
