"""What subscribers see of whole lives, over fakes."""

import asyncio
from typing import Any

import pytest

from crid.errors import CridError
from crid.events.broadcast import Subscription
from crid.lifecycle.event_hooks import PodEvent
from crid.model.container import ContainerState
from tests.harness.tools import PATIENCE, until
from tests.unit.lifecycle.world import World, container_config

Seen = tuple[str, str, bool | None, list[str]]
"""Kind, subject, whether the pod was ready, states of its containers."""


class Names:
    """Ids as the names that a test gives them."""

    def __init__(self, **objects: Any) -> None:
        self.names = {item.id: name for name, item in objects.items()}

    def of(self, event: PodEvent) -> Seen:
        ready = event.sandbox.status.ready if event.sandbox else None
        return (event.kind.value, self.names[event.subject], ready, [item.status.state.value for item in event.containers])


async def read(subscription: Subscription[PodEvent], count: int) -> list[PodEvent]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(subscription) for _ in range(count)]


async def test_a_life_with_the_states_of_each_moment(world: World) -> None:
    with world.events.subscribe() as one, world.events.subscribe() as other:
        pod = await world.pod()
        container = await world.running(pod)
        await world.containers.stop(container.id, 1)
        await world.containers.stop(container.id, 1)
        await world.containers.remove(container.id)
        for _ in range(2):
            await world.sandboxes.stop(pod.id)
        await world.sandboxes.remove(pod.id)
        names = Names(pod=pod, app=container)
        events = await read(one, 8)
        assert [names.of(event) for event in events] == [
            ("created", "pod", True, []),
            ("started", "pod", True, []),
            ("created", "app", True, ["created"]),
            ("started", "app", True, ["running"]),
            ("stopped", "app", True, ["stopped"]),
            ("deleted", "app", True, []),
            ("stopped", "pod", False, []),
            ("deleted", "pod", False, []),
        ]
        assert await read(other, 8) == events
        assert [event.at for event in events] == sorted(event.at for event in events)


async def test_a_program_that_ends_by_itself_is_told_in_order(world: World) -> None:
    pod = await world.pod()
    with world.events.subscribe() as subscription:
        container = await world.running(pod, "true")
        names = Names(app=container)
        told = [names.of(event)[0] for event in await read(subscription, 3)]
        assert told == ["created", "started", "stopped"]
        await world.containers.remove(container.id)
        assert [names.of(event)[0] for event in await read(subscription, 1)] == ["deleted"]


async def test_an_end_that_is_noticed_before_the_start_is_recorded_is_told_after_it(world: World) -> None:
    """The runtime's start returns when the program runs, which may have ended by then."""
    pod = await world.pod()
    container = await world.containers.create(pod.id, container_config("stubborn"))
    gate = world.runtime.verbs.close_gate("start")
    with world.events.subscribe() as subscription:
        starting = asyncio.create_task(world.containers.start(container.id))
        await world.runtime.verbs.reached("start")
        world.exits.record(container, 0, 1)
        world.containers.ended(container)
        await asyncio.sleep(0)
        gate.set()
        await starting
        assert [event.kind.value for event in await read(subscription, 2)] == ["started", "stopped"]


@pytest.mark.parametrize("killing", [{}, {"stop": OSError(24, "Too many open files")}], ids=["killed", "cannot be killed"])
async def test_a_start_that_fails_is_an_end(world: World, killing: dict[str, Exception]) -> None:
    pod = await world.pod()
    container = await world.containers.create(pod.id, container_config())
    world.runtime.verbs.failures = {"start": CridError("no such program"), **killing}
    with world.events.subscribe() as subscription:
        with pytest.raises(CridError, match="no such program"):
            await world.containers.start(container.id)
        (event,) = await read(subscription, 1)
        assert (event.kind.value, event.containers[0].status.reason) == ("stopped", "StartError")


async def test_a_report_that_comes_during_the_removal_is_not_told_after_it(world: World) -> None:
    """A monitor that was silent for too long speaks while its container is being deleted."""
    container = await world.running(await world.pod(), "stubborn")
    world.exits.record_lost(container, 1, "its monitor is silent")
    gate = world.runtime.verbs.close_gate("delete")
    with world.events.subscribe() as subscription:
        removing = asyncio.create_task(world.containers.remove(container.id))
        await world.runtime.verbs.reached("delete")
        world.exits.record(container, 3, 1)
        world.containers.ended(container)
        await asyncio.sleep(0)
        gate.set()
        await removing
        telling = f"end of {container.id}"
        await until(lambda: telling not in world.parts.supervisor.working(), "whatever was to be told is told")
        assert [event.kind.value for event in await read(subscription, 2)] == ["stopped", "deleted"]
        assert repr(subscription) == "<Subscription waiting=0 end=None>"


async def test_what_could_not_be_created_is_not_told(world: World) -> None:
    pod = await world.pod()
    world.runtime.verbs.failures["create"] = CridError("no")
    with world.events.subscribe() as subscription:
        with pytest.raises(CridError):
            await world.containers.create(pod.id, container_config())
        await world.sandboxes.stop(pod.id)
        (event,) = await read(subscription, 1)
        assert (event.kind.value, event.subject) == ("stopped", pod.id)


async def test_a_snapshot_does_not_change_later(world: World) -> None:
    with world.events.subscribe() as subscription:
        pod = await world.pod()
        container = await world.running(pod)
        await world.containers.stop(container.id, 0)
        created = (await read(subscription, 3))[2]
        assert created.containers[0].status.state is ContainerState.CREATED
        assert container.status.state is ContainerState.STOPPED


async def test_only_the_pods_own_containers_are_in_its_events(world: World) -> None:
    first = await world.pod("first")
    await world.running(first)
    with world.events.subscribe() as subscription:
        second = await world.pod("second")
        assert all(not event.containers for event in await read(subscription, 2))
        await world.running(second)
        assert [len(event.containers) for event in await read(subscription, 2)] == [1, 1]


async def test_without_a_subscriber_nothing_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crid.lifecycle.event_hooks.PodEvent", None)
    pod = await world.pod()
    await world.running(pod)
    await world.sandboxes.remove(pod.id)
