"""Accounting on demand: rates between readings, and nothing remembered of what is gone."""

import pytest

from crid.errors import NotFoundError
from crid.lifecycle.stats import InterfaceReading, Stats, parse_counters
from tests.unit.lifecycle.world import World, container_config

COUNTERS = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:1234567890    10    2    0    0     0          0         0 98765       11    3    0    0     0       0          0
  sit0: 1 2 3
"""


def test_counters() -> None:
    assert parse_counters(COUNTERS) == (InterfaceReading("eth0", 1234567890, 2, 98765, 3, 10, 0, 11, 0),)
    assert parse_counters("") == ()


async def test_a_rate_needs_two_readings(world: World) -> None:
    stats = Stats(world.parts)
    container = await world.running(await world.pod(), "stubborn")
    assert (await stats.container(container)).nano_cores is None
    assert (await stats.container(container)).nano_cores == 0


async def test_the_ended_have_no_accounting_in_lists(world: World) -> None:
    stats, pod = Stats(world.parts), await world.pod()
    running = await world.running(pod, "stubborn", name="a")
    created = await world.containers.create(pod.id, container_config(name="b"))
    ended = await world.running(pod, "stubborn", name="c")
    await world.containers.stop(ended.id, 0)
    assert [item.container for item in await stats.containers([running, created, ended])] == [running, created]
    reading = await stats.sandbox(pod)
    assert [item.container for item in reading.containers] == [running, created]
    assert reading.interfaces is not None


async def test_what_the_kernel_no_longer_has_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await world.running(await world.pod(), "stubborn")

    def gone(container: object) -> None:
        raise NotFoundError("no cgroup")

    monkeypatch.setattr(world.runtime, "stats", gone)
    monkeypatch.setattr(world.images, "upper", lambda identifier: world.parts.run_root / "gone")
    reading = await Stats(world.parts).container(container)
    assert (reading.cgroup, reading.nano_cores, reading.disk) == (None, None, None)


async def test_nothing_is_remembered_of_what_was_removed(world: World) -> None:
    stats = Stats(world.parts)
    for _ in range(3):
        pod = await world.pod()
        await world.running(pod, "stubborn")
        await stats.sandboxes([pod])
        await world.sandboxes.remove(pod.id)
    await stats.containers([])
    assert stats._previous == {}
    assert repr(stats.layer_sizes) == "<LayerSizes known=0 walks=0>"
