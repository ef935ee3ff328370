"""Ends that no notice tells of."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.lifecycle import exits as exits_module
from crid.lifecycle.exit_watch import ExitWatch
from crid.linux.process import identify
from crid.model.container import Container, ContainerState
from crid.model.process import ProcessIdentity
from crid.model.sandbox import PodSandbox
from crid.oci.exits import Exit
from crid.store import record_files
from tests.harness.tools import until
from tests.unit.lifecycle.world import World


@pytest.fixture
async def container(world: World) -> Container:
    return await world.running(await world.pod(), "stubborn")


@pytest.fixture
async def told() -> list[Container]:
    return []


@pytest.fixture
async def watch(world: World, told: list[Container], monkeypatch: pytest.MonkeyPatch) -> ExitWatch:
    """A watch on a node where no notice arrives."""
    await world.unfollow()
    monkeypatch.setattr(exits_module, "LOOKS", (0.01, 0.01))
    return ExitWatch(world.parts, world.exits, told.append)


async def test_an_end_without_a_notice(watch: ExitWatch, world: World, container: Container, told: list[Container]) -> None:
    watch.sweep()
    watch.sweep()
    await world.runtime.stop(container, 9, 0)
    await until(lambda: told, "it is told")
    assert told == [container]
    assert (container.status.state, container.status.reason) == (ContainerState.STOPPED, "MonitorLost")
    watch.sweep()
    await until(lambda: repr(watch) == "<ExitWatch watched=0 settling=0>", "nothing is watched")


async def test_one_that_had_ended_before_the_first_sweep(watch: ExitWatch, world: World, container: Container) -> None:
    await world.runtime.stop(container, 9, 0)
    watch.sweep()
    await until(lambda: container.status.state is ContainerState.STOPPED, "the end is recorded")


async def test_one_that_was_recorded_meanwhile(
    watch: ExitWatch, world: World, container: Container, told: list[Container]
) -> None:
    watch.sweep()
    world.exits.record(container, 3, 2**62)
    await world.runtime.stop(container, 9, 0)
    await asyncio.sleep(0.05)
    assert (told, container.status.exit_code) == ([], 3)


async def test_a_lost_monitor_is_told_of_once_and_its_container_runs_on(
    watch: ExitWatch, container: Container, caplog: pytest.LogCaptureFixture
) -> None:
    watch.sweep()
    watch.sweep()
    assert caplog.text.count("monitor lost") == 1
    assert container.status.state is ContainerState.RUNNING
    watch.close()
    watch.close()


async def test_a_monitor_that_lives_is_no_news(
    watch: ExitWatch, world: World, container: Container, caplog: pytest.LogCaptureFixture
) -> None:
    world.parts.state.update_container(container, lambda status: replace(status, monitor=identify(os.getpid())))
    watch.sweep()
    assert "monitor lost" not in caplog.text
    watch.close()


async def test_a_monitor_that_speaks_after_all(
    watch: ExitWatch, world: World, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.exits.record_lost(container, 2**61, "silent")
    monkeypatch.setattr(world.exits, "_read_exit", lambda container: Exit(container.id, 6, 2**62))
    watch.sweep()
    assert (container.status.exit_code, container.status.reason) == (6, "")


async def test_what_is_removed_is_not_watched_any_more(watch: ExitWatch, world: World, container: Container) -> None:
    watch.sweep()
    world.parts.containers.delete(container.id)
    watch.sweep()
    assert repr(watch) == "<ExitWatch watched=0 settling=0>"


async def test_a_status_that_could_not_be_written_is_written_later(
    watch: ExitWatch, world: World, container: Container, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(record_files, "write_atomic", no_space)
        world.exits.record(container, 3, 2**62)
        watch.sweep()
    assert world.parts.state.load_containers()[0].status.state is ContainerState.RUNNING
    assert "still not be recorded" in caplog.text
    watch.sweep()
    assert world.parts.state.load_containers()[0].status == container.status


async def test_the_sweep_goes_on_after_a_failure(
    watch: ExitWatch, world: World, container: Container, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("crid.lifecycle.exit_watch.SWEEP", 0.001)
    failures = [OSError(24, "Too many open files")]

    def watch_end(container: Container, ended: Callable[[], None]) -> Callable[[], None]:
        if failures:
            raise failures.pop()
        return lambda: None

    monkeypatch.setattr(world.runtime, "watch_end", watch_end)
    running = asyncio.create_task(watch.run())
    await until(lambda: "watched=1" in repr(watch), "it is watched")
    assert "could not be looked at" in caplog.text
    running.cancel()


@pytest.mark.parametrize("lives", [True, False])
async def test_a_pod_is_ready_only_as_long_as_its_pause_process_lives(
    watch: ExitWatch, world: World, caplog: pytest.LogCaptureFixture, *, lives: bool
) -> None:
    """Without it no container can be made in the pod any more: the client is to make it anew."""
    pod = await world.pod("shared", pid=cri.POD)
    pause = identify(os.getpid()) if lives else ProcessIdentity(os.getpid(), 1)  # somebody who had our number before
    known = PodSandbox(replace(pod.metadata, pause=pause), pod.status)
    world.parts.sandboxes.delete(pod.id)
    world.parts.sandboxes.add(known)
    watch.sweep()
    watch.sweep()
    assert known.status.ready == lives
    assert caplog.text.count("is broken") == (0 if lives else 1)
    (recorded,) = [item for item in world.parts.state.load_sandboxes() if item.id == pod.id]
    assert recorded.status == known.status
