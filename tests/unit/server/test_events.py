"""The event stream, with real clients: those that read, and those that do not."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio

from crid.cri import api_pb2 as cri
from crid.lifecycle.event_hooks import EventKind, PodEvent
from tests.harness.tools import PATIENCE, until
from tests.unit.lifecycle.world import pod_config
from tests.unit.server.conftest import METHODS, Served


async def subscribed(served: Served) -> Any:
    """A call that the server has taken up."""
    service, _ = METHODS["GetContainerEvents"]
    arguments = (cri.GetEventsRequest.SerializeToString, cri.ContainerEventResponse.FromString)
    call = served.channel.unary_stream(f"/{service}/GetContainerEvents", *arguments)(cri.GetEventsRequest())
    await asyncio.wait_for(call.initial_metadata(), PATIENCE)
    return call


async def test_two_clients_see_a_life_with_its_statuses(served: Served) -> None:
    calls = [await subscribed(served) for _ in range(2)]
    world = served.world
    pod = await world.pod()
    container = await world.running(pod)
    await world.sandboxes.remove(pod.id)
    for call in calls:
        events = [await asyncio.wait_for(call.read(), PATIENCE) for _ in range(8)]
        assert [(event.container_id == pod.id, event.container_event_type) for event in events] == [
            (True, cri.CONTAINER_CREATED_EVENT),
            (True, cri.CONTAINER_STARTED_EVENT),
            (False, cri.CONTAINER_CREATED_EVENT),
            (False, cri.CONTAINER_STARTED_EVENT),
            (False, cri.CONTAINER_STOPPED_EVENT),
            (True, cri.CONTAINER_STOPPED_EVENT),
            (False, cri.CONTAINER_DELETED_EVENT),
            (True, cri.CONTAINER_DELETED_EVENT),
        ]
        assert {event.pod_sandbox_status.metadata.name for event in events} == {"web"}
        assert [event.pod_sandbox_status.state == cri.SANDBOX_READY for event in events] == [True] * 4 + [False] * 4
        running = events[3].containers_statuses
        assert [(item.id, item.state) for item in running] == [(container.id, cri.CONTAINER_RUNNING)]
        assert events[-1].containers_statuses == []
        assert all(event.created_at >= event.pod_sandbox_status.created_at for event in events)
        call.cancel()


async def test_a_client_that_does_not_read_is_dropped_and_told_so(served: Served) -> None:
    """What it has not read fills the connection's buffers first, then its queue."""
    slow, quick = await subscribed(served), await subscribed(served)
    pod = await served.world.pod(annotations={"long": "x" * 20_000})
    events = served.world.events
    for _ in range(100):
        events.publish(PodEvent(EventKind.STARTED, pod.id, 1, None, ()))
        await asyncio.wait_for(quick.read(), PATIENCE)
    assert events.dropped == 0  # small ones fit into the buffers
    for _ in range(2000):
        events.publish(PodEvent(EventKind.STARTED, pod.id, 1, pod, ()))
        assert (await asyncio.wait_for(quick.read(), PATIENCE)).container_id == pod.id
        if events.dropped:
            break
    assert events.dropped == 1
    with pytest.raises(aio.AioRpcError) as raised:
        async for _ in slow:
            pass
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "subscribe anew" in (raised.value.details() or "")
    assert await served.call("Version")
    quick.cancel()


async def test_who_hangs_up_is_forgotten(served: Served) -> None:
    call = await subscribed(served)
    assert served.world.events.heard
    call.cancel()
    await until(lambda: not served.world.events.heard, "nobody hears any more")


async def test_the_daemons_end_is_an_error_not_a_quiet_end(served: Served) -> None:
    call = await subscribed(served)
    served.world.events.close()
    with pytest.raises(aio.AioRpcError) as raised:
        await asyncio.wait_for(call.read(), PATIENCE)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (await served.refused("GetContainerEvents"))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_pods_status_holds_those_of_its_containers(served: Served) -> None:
    pods = [await served.world.pod(name) for name in ("a", "b")]
    container = await served.world.running(pods[0])
    await served.world.running(pods[1])
    answer = await served.call("PodSandboxStatus", cri.PodSandboxStatusRequest(pod_sandbox_id=pods[0].id))
    assert [(item.id, item.state) for item in answer.containers_statuses] == [(container.id, cri.CONTAINER_RUNNING)]
    assert answer.timestamp >= answer.containers_statuses[0].started_at > 0
    assert answer.status.metadata == pod_config("a").metadata
