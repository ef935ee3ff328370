"""An exit is written down once, and everybody who waits for it learns it."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from crid.errors import DeadlineExceededError
from crid.lifecycle import exits as exits_module
from crid.lifecycle.exits import Exits
from crid.linux.process import identify
from crid.model.container import Container, ContainerState
from crid.oci.exits import Exit
from tests.unit.lifecycle.world import World


@pytest.fixture
async def container(world: World) -> Container:
    return await world.running(await world.pod(), "stubborn")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_first_one_wins(world: World, container: Container) -> None:
    later = container.status.started_at + 1
    world.exits.record(container, 3, later, oom_killed=True)
    world.exits.record(container, 0, later + 1, reason="Other", message="x")
    world.exits.record_lost(container, later + 2, "gone")
    status = container.status
    assert (status.exit_code, status.finished_at, status.oom_killed, status.reason) == (3, later, True, "")
    assert world.parts.state.load_containers()[0].status == status


def test_nobody_ends_before_the_beginning(world: World, container: Container) -> None:
    """The file system's clock may be behind the one that noted the start."""
    world.exits.record(container, 0, container.status.started_at - 1)
    assert container.status.finished_at == container.status.started_at


def test_an_exit_at_time_zero_is_an_exit(world: World, container: Container) -> None:
    world.parts.state.update_container(container, lambda status: replace(status, started_at=0))
    world.exits.record(container, 0, 0)
    assert container.status.state is ContainerState.STOPPED


def test_a_paused_container_that_ended_is_not_paused(world: World, container: Container) -> None:
    world.parts.state.update_container(container, lambda status: replace(status, paused=True))
    world.exits.record(container, 137, 9)
    assert not container.status.paused


def test_a_lost_exit_says_so(world: World, container: Container) -> None:
    world.exits.record_lost(container, 9, "it is gone")
    status = container.status
    assert (status.exit_code, status.reason, status.message) == (255, "Unknown", "it is gone")


async def test_all_who_wait_are_woken(world: World, container: Container) -> None:
    waiting = [asyncio.create_task(world.exits.wait(container, 60)) for _ in range(3)]
    await settle()
    world.exits.record(container, 0, 9)
    await asyncio.gather(*waiting)
    await world.exits.wait(container, 0)


async def test_waiting_has_a_bound_that_the_error_names(world: World, container: Container) -> None:
    with pytest.raises(DeadlineExceededError, match=rf"container {container.id}: .* within 0\.01 s"):
        await world.exits.wait(container, 0.01)
    assert container.status.state is ContainerState.RUNNING


async def test_one_waiters_timeout_does_not_take_the_others_event(world: World, container: Container) -> None:
    patient = asyncio.create_task(world.exits.wait(container, 60))
    with pytest.raises(DeadlineExceededError):
        await world.exits.wait(container, 0.01)
    world.exits.record(container, 0, 9)
    await patient


def test_a_report_replaces_a_code_that_was_made_up(world: World, container: Container) -> None:
    world.exits.record_lost(container, 2**62, "its monitor is silent")
    assert not world.exits.record(container, 255, 2**62 + 1, reason="MonitorLost")
    assert world.exits.record(container, 3, 2**61, oom_killed=True)
    status = container.status
    assert (status.exit_code, status.finished_at, status.oom_killed) == (3, 2**61, True)
    assert (status.reason, status.message) == ("", "")
    assert not world.exits.record(container, 0, 1)
    assert container.status.exit_code == 3


class TestSettle:
    """The process is gone; the fake runtime's monitors never live, and its notices are not followed here."""

    @pytest.fixture
    async def exits(self, world: World, monkeypatch: pytest.MonkeyPatch) -> Exits:
        await world.unfollow()
        monkeypatch.setattr(exits_module, "LOOKS", (0.01, 0.01))
        return Exits(world.parts.containers, world.parts.state, self.written)

    def written(self, container: Container) -> Exit | None:
        return self.report

    report: Exit | None = None

    async def test_a_notice_is_enough(self, exits: Exits, container: Container) -> None:
        exits.record(container, 4, 2**62)
        assert not await exits.settle(container)
        assert container.status.exit_code == 4

    async def test_what_the_monitor_has_written_is_found(self, exits: Exits, container: Container) -> None:
        self.report = Exit(container.id, 5, 2**62, oom_killed=True)
        assert await exits.settle(container)
        assert (container.status.exit_code, container.status.oom_killed, container.status.reason) == (5, True, "")

    async def test_nobody_is_left_to_tell(self, exits: Exits, container: Container) -> None:
        assert await exits.settle(container)
        status = container.status
        assert (status.exit_code, status.reason) == (255, "MonitorLost")
        assert status.message.startswith("monitor lost")

    async def test_a_living_monitor_that_is_silent(self, world: World, exits: Exits, container: Container) -> None:
        world.parts.state.update_container(container, lambda status: replace(status, monitor=identify(os.getpid())))
        assert await exits.settle(container)
        assert (container.status.exit_code, container.status.reason) == (255, "Unknown")
        self.report = Exit(container.id, 6, 2**62)
        assert exits.catch_up(container)
        assert (container.status.exit_code, container.status.reason) == (6, "")


async def test_follow_records_what_it_knows_and_passes_over_the_rest(world: World, container: Container) -> None:
    async def reports() -> AsyncIterator[Exit]:
        yield Exit("f" * 64, 1, 9)
        yield Exit(container.id, 7, 2**62, oom_killed=True)
        yield Exit(container.id, 7, 2**62, oom_killed=True)  # a notice may come again

    told: list[Container] = []
    await world.exits.follow(reports(), told.append)
    assert told == [container]
    assert (container.status.exit_code, container.status.finished_at, container.status.oom_killed) == (7, 2**62, True)
