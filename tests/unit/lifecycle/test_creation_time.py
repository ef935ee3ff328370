"""What replaces something is newer than that, whatever the wall clock says."""

import time

import pytest

from crid.cri import api_pb2 as cri
from tests.unit.lifecycle.world import World, container_config, pod_config

HOUR = 3600 * 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The wall clock, in nanoseconds since the epoch."""
    now = [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    return now


def second(config: cri.PodSandboxConfig | cri.ContainerConfig) -> None:
    config.metadata.attempt = 1


async def test_a_container_is_newer_than_the_one_that_it_replaces(world: World, clock: list[int]) -> None:
    pod = await world.pod()
    first = await world.running(pod, "stubborn")
    await world.containers.stop(first.id, 0)
    clock[0] -= HOUR
    config = container_config("stubborn")
    second(config)
    replacing = await world.containers.create(pod.id, config)
    assert first.created_at < replacing.created_at == replacing.status.created_at
    await world.containers.start(replacing.id)
    assert replacing.status.started_at == clock[0]  # from which clients count


async def test_a_pod_and_its_containers_are_newer_than_those_that_they_replace(world: World, clock: list[int]) -> None:
    first = await world.pod()
    clock[0] += 5
    container = await world.running(first, "stubborn")
    await world.sandboxes.stop(first.id)
    clock[0] -= HOUR
    config = pod_config()
    second(config)
    replacing = await world.sandboxes.run(config, "")
    assert replacing.created_at > first.created_at
    of_container = container_config("stubborn")
    second(of_container)
    again = await world.containers.create(replacing.id, of_container)
    assert again.created_at > container.created_at
    assert world.parts.sandboxes.list() == [first, replacing]


async def test_others_have_the_time_that_the_clock_shows(world: World, clock: list[int]) -> None:
    await world.running(await world.pod("one"), "stubborn")
    clock[0] -= HOUR
    pod = await world.pod("two")
    assert pod.created_at == clock[0]
    clock[0] += 5
    assert (await world.running(pod, "stubborn")).created_at == clock[0]
