"""A container's verbs, alone, against each other, and with each of their steps failing."""

import asyncio
import errno
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import (
    AlreadyExistsError,
    CridError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from crid.lifecycle.tuning import Tuning
from crid.model.container import Container, ContainerState
from crid.model.sandbox import PodSandbox
from tests.harness.tools import PATIENCE, until
from tests.unit.lifecycle.late_faults import LateFaults
from tests.unit.lifecycle.world import World, container_config


@pytest.fixture
async def pod(world: World) -> PodSandbox:
    return await world.pod()


@pytest.fixture
async def created(world: World, pod: PodSandbox) -> Container:
    return await world.containers.create(pod.id, container_config("obedient"))


async def reaches(container: Container, state: ContainerState) -> None:
    await until(lambda: container.status.state is state, f"the container is {state}")


class TestRetry:
    async def test_the_same_request_gets_the_same_container_until_that_has_ended(
        self, world: World, pod: PodSandbox, created: Container
    ) -> None:
        assert await world.containers.create(pod.id, container_config()) is created
        await world.containers.start(created.id)
        assert await world.containers.create(pod.id, container_config()) is created
        await world.containers.stop(created.id, 0)
        with pytest.raises(AlreadyExistsError, match=created.id):
            await world.containers.create(pod.id, container_config())


class TestStart:
    async def test_it_runs_and_ends(self, world: World, pod: PodSandbox) -> None:
        before = time.time_ns()
        container = await world.running(pod, "true")
        assert before <= container.status.started_at <= time.time_ns()
        await reaches(container, ContainerState.STOPPED)
        status = container.status
        assert (status.exit_code, status.reason) == (0, "")
        assert status.started_at <= status.finished_at

    async def test_only_once(self, world: World, created: Container) -> None:
        await asyncio.gather(*(world.containers.start(created.id) for _ in range(3)))
        began = created.status.started_at
        await world.containers.start(created.id)
        assert world.runtime.verbs.calls.count("start") == 1
        assert (created.status.state, created.status.started_at) == (ContainerState.RUNNING, began)

    async def test_not_after_its_end(self, world: World, created: Container) -> None:
        world.runtime.verbs.failures["start"] = CridError("exec /nope: no such file")
        with pytest.raises(CridError):
            await world.containers.start(created.id)
        with pytest.raises(FailedPreconditionError, match="/nope"):
            await world.containers.start(created.id)

    async def test_of_nobody(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            await world.containers.start("f" * 64)

    async def test_in_a_stopped_pod(self, world: World, pod: PodSandbox, created: Container) -> None:
        await world.sandboxes.stop(pod.id)
        with pytest.raises(FailedPreconditionError, match="stopped"):
            await world.containers.start(created.id)

    async def test_a_program_that_cannot_be_run_shows_in_the_status(self, world: World, created: Container) -> None:
        world.runtime.verbs.failures["start"] = CridError("exec /nope: no such file")
        with pytest.raises(CridError, match="/nope"):
            await world.containers.start(created.id)
        status = created.status
        assert (status.state, status.exit_code) == (ContainerState.STOPPED, 128)
        assert (status.reason, status.message) == ("StartError", "exec /nope: no such file")
        assert world.parts.state.load_containers()[0].status == status
        assert world.runtime.known() == 0
        with pytest.raises(FailedPreconditionError):
            await world.containers.start(created.id)

    async def test_what_failed_to_start_is_dead_though_the_runtime_cannot_delete_it(
        self, world: World, created: Container
    ) -> None:
        """It hung after it had let the program go, or it is not there any more."""
        world.runtime.verbs.failures = {"start": DeadlineExceededError("late"), "delete": UnavailableError("not found")}
        with pytest.raises(DeadlineExceededError, match="late"):
            await world.containers.start(created.id)
        assert created.status.reason == "StartError"
        assert not world.runtime.is_alive(created)

    async def test_the_monitors_report_of_a_failed_start_does_not_hide_the_reason(
        self, world: World, created: Container
    ) -> None:
        """The monitor sees the process end before the runtime's own words arrive."""

        async def die(container: Container) -> None:
            world.exits.record(container, 1, time.time_ns())
            raise CridError("exec format error")

        world.runtime.start = die  # type: ignore[method-assign]  # a verb of the test's own
        with pytest.raises(CridError, match="format"):
            await world.containers.start(created.id)
        assert (created.status.exit_code, created.status.reason) == (128, "StartError")
        assert created.status.message == "exec format error"

    async def test_what_ends_at_once_has_not_ended_before_it_began(self, world: World, created: Container) -> None:
        """The exit is recorded, by a coarser clock, before the runtime says that it has started."""

        async def end_at_once(container: Container) -> None:
            world.exits.record(container, 0, 1)

        world.runtime.start = end_at_once  # type: ignore[method-assign]  # a verb of the test's own
        await world.containers.start(created.id)
        assert created.status.state is ContainerState.STOPPED
        assert 0 < created.status.started_at <= created.status.finished_at

    async def test_a_start_is_known_though_the_disk_is_full(
        self, world: World, created: Container, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("crid.store.record_files.write_atomic", no_space)
            await world.containers.start(created.id)
        assert created.status.state is ContainerState.RUNNING

    async def test_a_failed_start_is_known_though_the_disk_is_full(
        self, world: World, created: Container, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.runtime.verbs.failures["start"] = CridError("exec /nope")
        with monkeypatch.context() as patch:
            patch.setattr("crid.store.record_files.write_atomic", no_space)
            with pytest.raises(CridError, match="/nope"):
                await world.containers.start(created.id)
        assert created.status.reason == "StartError"

    async def test_it_goes_on_without_its_caller(self, world: World, created: Container) -> None:
        gate = world.runtime.verbs.close_gate("start")
        caller = asyncio.create_task(world.containers.start(created.id))
        await world.runtime.verbs.reached("start")
        caller.cancel()
        await asyncio.wait([caller])
        gate.set()
        await reaches(created, ContainerState.RUNNING)


def no_space(path: Path, content: bytes) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class TestStop:
    async def test_by_its_signal(self, world: World, created: Container) -> None:
        await world.containers.start(created.id)
        await asyncio.sleep(0)
        await world.containers.stop(created.id, 60)
        assert (created.status.state, created.status.exit_code) == (ContainerState.STOPPED, 7)

    async def test_by_force_after_the_grace_period(self, world: World, pod: PodSandbox) -> None:
        container = await world.running(pod, "stubborn")
        await world.containers.stop(container.id, 0.02)
        assert container.status.exit_code == 137

    async def test_of_one_that_was_never_started_does_not_wait(self, world: World, created: Container) -> None:
        async with asyncio.timeout(PATIENCE):
            await world.containers.stop(created.id, 600)
        assert (created.status.state, created.status.exit_code) == (ContainerState.STOPPED, 137)

    async def test_again_and_of_nobody(self, world: World, created: Container) -> None:
        await world.containers.stop("f" * 64, 1)
        await world.containers.stop(created.id, 1)
        status = created.status
        await world.containers.stop(created.id, 1)
        assert created.status is status
        assert world.runtime.verbs.calls.count("stop") == 1

    async def test_a_caller_that_gives_up_takes_the_grace_period_along(self, world: World, pod: PodSandbox) -> None:
        container = await world.running(pod, "stubborn")
        world.runtime.verbs.close_gate("stop").set()
        caller = asyncio.create_task(world.containers.stop(container.id, 0.5))
        await world.runtime.verbs.reached("stop")
        caller.cancel()
        await asyncio.wait([caller])
        await asyncio.sleep(0.6)
        assert container.status.state is ContainerState.RUNNING

    async def test_other_verbs_work_meanwhile(self, world: World, pod: PodSandbox) -> None:
        container = await world.running(pod, "stubborn")
        stopping = asyncio.create_task(world.containers.stop(container.id, 60))
        await asyncio.sleep(0.01)
        assert (await world.execs.exec_sync(container.id, ["echo", "hello"], 5)).stdout == b"hello\n"
        await world.containers.update_resources(container.id, cri.LinuxContainerResources(cpu_shares=100))
        await world.containers.stop(container.id, 0)
        await stopping
        assert container.status.exit_code == 137

    @pytest.mark.parametrize("error", [NotFoundError("unknown"), DeadlineExceededError("late")])
    async def test_a_process_that_is_gone_without_a_report_is_lost(
        self, world: World, created: Container, error: CridError
    ) -> None:
        await world.containers.start(created.id)
        await world.runtime.delete(created)
        world.runtime.verbs.failures["stop"] = error
        await world.containers.stop(created.id, 1)
        assert created.status.state is ContainerState.STOPPED

    async def test_the_host_is_set_back_though_no_monitor_tells_of_the_end(
        self, world: World, created: Container, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.unfollow()
        await world.containers.start(created.id)
        set_back: list[Container] = []
        monkeypatch.setattr(Tuning, "after_end", lambda tuning, container: set_back.append(container))
        await world.containers.stop(created.id, 0)
        assert created.status.reason == "MonitorLost"
        assert set_back == [created]

    async def test_a_process_that_lives_on_is_an_error(self, world: World, created: Container) -> None:
        await world.containers.start(created.id)
        world.runtime.verbs.failures["stop"] = DeadlineExceededError("SIGKILL did not end it")
        with pytest.raises(DeadlineExceededError, match="SIGKILL"):
            await world.containers.stop(created.id, 1)
        assert created.status.state is ContainerState.RUNNING


class TestLeftovers:
    @pytest.mark.parametrize(("pid", "calls"), [(cri.CONTAINER, []), (cri.POD, ["stop"]), (cri.NODE, ["stop"])])
    async def test_what_a_shared_pid_namespace_keeps_running_is_ended(
        self, world: World, pid: cri.NamespaceMode.ValueType, calls: list[str]
    ) -> None:
        pod = await world.pod("shared", pid=pid)
        container = await world.containers.create(pod.id, container_config("true", pid=pid))
        await world.containers.start(container.id)
        await reaches(container, ContainerState.STOPPED)
        for _ in range(10):
            await asyncio.sleep(0)
        assert [call for call in world.runtime.verbs.calls if call == "stop"] == calls

    @pytest.mark.parametrize("error", [DeadlineExceededError("SIGKILL did not end it"), OSError(24, "Too many open files")])
    async def test_what_cannot_be_ended_does_not_keep_others_from_it(self, world: World, error: Exception) -> None:
        pod = await world.pod("shared", pid=cri.POD)
        ended = [await world.containers.create(pod.id, container_config(pid=cri.POD, name=name)) for name in "ab"]
        world.runtime.verbs.failures["stop"] = error
        await world.containers.end_leftovers([await world.containers.create(pod.id, container_config(name="c")), *ended])
        assert world.runtime.verbs.calls.count("stop") == len(ended)


class TestRemove:
    @pytest.mark.parametrize("command", ["stubborn", "true"])
    async def test_nothing_is_left_but_the_pod(self, world: World, pod: PodSandbox, command: str) -> None:
        only_the_pod = world.leftovers()
        container = await world.running(pod, command)
        await world.containers.remove(container.id)
        assert world.leftovers() == only_the_pod

    async def test_again_at_once_and_of_nobody(self, world: World, created: Container) -> None:
        await asyncio.gather(*(world.containers.remove(created.id) for _ in range(3)))
        await world.containers.remove(created.id)
        assert world.parts.containers.list() == []
        assert world.runtime.verbs.calls.count("delete") == 1

    async def test_during_a_stop_it_ends_the_grace_period(self, world: World, pod: PodSandbox) -> None:
        container = await world.running(pod, "stubborn")
        stopping = asyncio.create_task(world.containers.stop(container.id, 600))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE):
            await world.containers.remove(container.id)
            await stopping
        assert world.parts.containers.list() == []

    async def test_during_a_start(self, world: World, created: Container) -> None:
        gate = world.runtime.verbs.close_gate("start")
        starting = asyncio.create_task(world.containers.start(created.id))
        await world.runtime.verbs.reached("start")
        removing = asyncio.create_task(world.containers.remove(created.id))
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.wait([starting, removing])
        assert removing.exception() is None
        assert isinstance(starting.exception(), CridError)
        assert world.parts.containers.list() == []
        assert world.runtime.known() == 0
        assert not world.parts.state.container_directory(created.id).exists()

    async def test_the_name_is_free_afterwards(self, world: World, pod: PodSandbox, created: Container) -> None:
        with pytest.raises(AlreadyExistsError, match=created.id):
            await world.containers.create(pod.id, container_config("another"))
        await world.containers.remove(created.id)
        assert (await world.containers.create(pod.id, container_config())).id != created.id

    async def test_a_runtime_that_fails_leaves_a_container_that_can_be_removed_again(
        self, world: World, created: Container
    ) -> None:
        world.runtime.verbs.failures["delete"] = UnavailableError("cannot run it")
        with pytest.raises(UnavailableError):
            await world.containers.remove(created.id)
        assert world.parts.containers.list() == [created]
        world.runtime.verbs.failures.clear()
        await world.containers.remove(created.id)
        assert world.parts.containers.list() == []

    async def test_every_step_fails_in_turn_and_a_retry_ends_the_work(self, world: World, pod: PodSandbox) -> None:
        only_the_pod = world.leftovers()
        left: dict[str, object] = {}
        faults = LateFaults()

        async def work() -> None:
            faults.hold()
            container = await world.running(pod, "stubborn")
            faults.begin()
            await world.containers.remove(container.id)

        async def after(step: str, failed: bool) -> None:
            for container in world.parts.containers.list():
                await world.containers.remove(container.id)
            if (found := world.leftovers()) != only_the_pod:
                left[step] = found

        steps = await faults.each(work, after)
        assert "store/state.py:StateStore.remove_container" in steps
        assert left == {}


class TestUpdateResources:
    async def test_the_limits_in_force_are_merged_and_shown(self, world: World, created: Container) -> None:
        await world.containers.update_resources(created.id, cri.LinuxContainerResources(cpu_shares=100))
        await world.containers.update_resources(created.id, cri.LinuxContainerResources(memory_limit_in_bytes=1 << 20))
        shown = created.status.resources
        assert shown is not None
        assert (shown.cpu_shares, shown.memory_limit_in_bytes) == (100, 1 << 20)

    async def test_two_at_once_both_hold(self, world: World, created: Container) -> None:
        gate = world.runtime.verbs.close_gate("update")
        limits = (cri.LinuxContainerResources(cpu_shares=100), cri.LinuxContainerResources(memory_limit_in_bytes=1 << 20))
        work = [asyncio.create_task(world.containers.update_resources(created.id, limit)) for limit in limits]
        await world.runtime.verbs.reached("update")
        gate.set()
        await asyncio.gather(*work)
        shown = created.status.resources
        assert shown is not None
        assert (shown.cpu_shares, shown.memory_limit_in_bytes) == (100, 1 << 20)

    async def test_what_is_refused_changes_nothing(self, world: World, created: Container) -> None:
        with pytest.raises(InvalidArgumentError):
            await world.containers.update_resources(created.id, cri.LinuxContainerResources(cpu_shares=-1))
        world.runtime.verbs.failures["update"] = CridError("no")
        with pytest.raises(CridError):
            await world.containers.update_resources(created.id, cri.LinuxContainerResources(cpu_shares=100))
        assert created.status.resources is None

    async def test_of_a_stopped_one(self, world: World, created: Container) -> None:
        await world.containers.stop(created.id, 0)
        with pytest.raises(FailedPreconditionError, match="stopped"):
            await world.containers.update_resources(created.id, cri.LinuxContainerResources(cpu_shares=100))


class TestReopenLog:
    async def test_only_while_it_runs(self, world: World, created: Container) -> None:
        with pytest.raises(FailedPreconditionError, match="created"):
            await world.containers.reopen_log(created.id)
        await world.containers.stop(created.id, 0)
        with pytest.raises(FailedPreconditionError, match="stopped"):
            await world.containers.reopen_log(created.id)
        with pytest.raises(NotFoundError):
            await world.containers.reopen_log("f" * 64)

    async def test_a_paused_one_too(self, world: World, tmp_path: Path) -> None:
        pod = await world.pod("logs", log_directory=str(tmp_path / "logs"))
        container = await world.containers.create(pod.id, container_config(log_path="app/0.log"))
        await world.containers.start(container.id)
        world.parts.state.update_container(container, lambda status: replace(status, paused=True))
        log = Path(container.metadata.log_path)
        assert log == tmp_path / "logs/app/0.log"
        log.unlink()
        await world.containers.reopen_log(container.id)
        assert log.exists()
