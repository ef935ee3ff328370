"""What a new daemon makes of what an old one left: each combination of facts, and whatever may be damaged."""

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crid.errors import CridError, UnavailableError
from crid.lifecycle import create, recovery, sandbox
from crid.lifecycle.exit_watch import ExitWatch
from crid.lifecycle.leftovers import Leftovers
from crid.lifecycle.recovery import Recovered, Recovery
from crid.linux.process import identify
from crid.model.container import Container, ContainerState
from crid.model.process import ProcessIdentity
from crid.model.sandbox import PodSandbox
from crid.oci.exits import Exit
from crid.oci.runtime import Observed
from crid.store import record_files
from tests.harness.tools import PATIENCE
from tests.unit.lifecycle.world import World, container_config, pod_config

DEAD = ProcessIdentity(os.getpid(), 1)
"""Our pid with another start time: somebody who had it before."""
ALIVE = identify(os.getpid())


async def recover(world: World, report: Callable[[Container], Exit | None] = lambda container: None) -> Recovered:
    return await Recovery(world.parts, world.exits, report, Leftovers(world.parts, world.places)).run()


def damage(*records: Path) -> None:
    for record in records:
        record.write_bytes(b"damaged")


@dataclass(frozen=True)
class Facts:
    """What is found of one container, and what it must come to."""

    started: bool
    report: bool
    process: bool
    monitor: bool
    observed: str
    state: ContainerState
    exit_code: int = 0
    reason: str = ""


TABLE = {
    "ended, and the monitor said how": Facts(True, True, False, False, "stopped", ContainerState.STOPPED, 3),
    "ended, said how, and the monitor is still going": Facts(True, True, False, True, "stopped", ContainerState.STOPPED, 3),
    "runs": Facts(True, False, True, True, "running", ContainerState.RUNNING),
    "runs without its monitor": Facts(True, False, True, False, "running", ContainerState.RUNNING),
    "was started, which was not written down": Facts(False, False, True, True, "running", ContainerState.RUNNING),
    "was paused, which was not written down": Facts(True, False, True, True, "paused", ContainerState.PAUSED),
    "is created": Facts(False, False, True, True, "created", ContainerState.CREATED),
    "a report that is older than the process that lives": Facts(True, True, True, True, "running", ContainerState.RUNNING),
    "ended, the monitor has yet to report": Facts(True, False, False, True, "stopped", ContainerState.RUNNING),
    "nothing": Facts(True, False, False, False, "stopped", ContainerState.STOPPED, 255, "Unknown"),
    "nothing of one that was never started": Facts(
        False, False, False, False, "stopped", ContainerState.STOPPED, 255, "Unknown"
    ),
}


@pytest.mark.parametrize("facts", TABLE.values(), ids=TABLE)
async def test_the_facts_decide(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: Facts) -> None:
    pod = await world.pod()
    container = await world.containers.create(pod.id, container_config())
    world.parts.state.update_container(
        container,
        lambda status: replace(status, monitor=ALIVE if facts.monitor else DEAD, started_at=5 if facts.started else 0),
    )

    async def update_status(container: Container) -> Observed:
        return Observed(facts.observed, 0)

    monkeypatch.setattr(world.runtime, "is_alive", lambda container: facts.process)
    monkeypatch.setattr(world.runtime, "update_status", update_status)
    new = await world.restarted(tmp_path)
    found = await recover(new, lambda item: Exit(item.id, 3, 99, oom_killed=True) if facts.report else None)
    again = new.parts.containers.get(container.id)
    status = again.status
    assert (status.state, status.exit_code, status.reason) == (facts.state, facts.exit_code, facts.reason)
    if facts.exit_code == 3:
        assert (status.finished_at, status.oom_killed) == (99, True)
    assert new.parts.state.load_containers()[0].status == status
    running = int(facts.state is ContainerState.RUNNING)
    ended = (again,) if facts.state is ContainerState.STOPPED else ()
    assert found == Recovered(sandboxes=1, containers=1, running=running, discarded=0, ended=ended)


async def test_what_had_ended_before_is_left_as_it_was(world: World, tmp_path: Path) -> None:
    container = await world.running(await world.pod(), "stubborn")
    await world.containers.stop(container.id, 0)
    new = await world.restarted(tmp_path)
    found = await recover(new, lambda item: pytest.fail("it was asked for again"))
    again = new.parts.containers.get(container.id)
    assert again.status == container.status
    assert found.ended == (again,)  # the daemon may have died before it had ended what this left running


async def test_a_runtime_that_does_not_answer_is_not_fatal(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await world.running(await world.pod(), "stubborn")

    async def update_status(container: Container) -> Observed:
        raise UnavailableError("crun: not found")

    monkeypatch.setattr(world.runtime, "update_status", update_status)
    new = await world.restarted(tmp_path)
    await recover(new)
    assert new.parts.containers.get(container.id).status.state is ContainerState.RUNNING


async def test_runtimes_that_hang_hold_up_the_start_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not once for each container, and not those of which it is not known whether they were started."""
    pod = await world.pod()
    silent = [await world.running(pod, "stubborn", name=f"silent-{number}") for number in range(recovery.ASKED + 1)]
    started = await world.containers.create(pod.id, container_config("stubborn", name="started"))
    await world.runtime.start(started)  # which was not written down
    new = await world.restarted(tmp_path)
    update_status = new.runtime.update_status

    async def hang(container: Container) -> Observed:
        if container.id != started.id:
            await asyncio.Event().wait()
        return await update_status(container)

    monkeypatch.setattr(new.runtime, "update_status", hang)
    monkeypatch.setattr(recovery, "ANSWERS", 0.1)
    await asyncio.wait_for(recover(new), PATIENCE)
    assert {item.status.state for item in new.parts.containers.list()} == {ContainerState.RUNNING}
    (said,) = [message for message in caplog.messages if "do not tell" in message]
    assert all(item.id in said for item in silent)
    assert started.id not in said


async def test_what_is_observed_on_a_full_disk_is_known_though_it_cannot_be_written_down(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon died between the start of a program and its note of that."""
    container = await world.containers.create((await world.pod()).id, container_config("stubborn"))
    await world.runtime.start(container)
    new = await world.restarted(tmp_path)

    def no_space(path: Path, content: bytes) -> None:
        raise OSError(28, os.strerror(28), str(path))

    with monkeypatch.context() as full:
        full.setattr(record_files, "write_atomic", no_space)
        await recover(new)
    known = new.parts.containers.get(container.id)
    assert known.status.state is ContainerState.RUNNING
    assert new.parts.state.write_again() == 0
    assert new.parts.state.load_containers()[0].status == known.status


async def test_the_names_are_held_again(world: World, tmp_path: Path) -> None:
    pod = await world.pod()
    await world.running(pod, "stubborn")
    new = await world.restarted(tmp_path)
    await recover(new)
    assert (len(new.parts.sandbox_names), len(new.parts.container_names)) == (1, 1)
    assert (await new.pod()).id == pod.id  # a retry of what the old daemon has done
    with pytest.raises(CridError, match=pod.id):
        await new.pod(hostname="another")
    await new.sandboxes.remove(pod.id)
    assert new.leftovers() == {}


@pytest.mark.parametrize("cleared", [True, False], ids=["run directory on a tmpfs", "run directory on a disk"])
async def test_a_reboot_stops_every_pod(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cleared: bool
) -> None:
    with monkeypatch.context() as earlier:
        for module in (create, sandbox):
            earlier.setattr(module, "boot_id", lambda: "an earlier boot")
        pod = await world.pod()
        container = await world.running(pod, "stubborn")
    # Somebody else may have the recorded pid and, by chance, the start time: the fake runtime says that it lives.
    world.kernel.mounts.clear()
    if cleared:
        shutil.rmtree(world.parts.run_root)
    new = await world.restarted(tmp_path)
    found = await recover(new)
    again = new.parts.sandboxes.get(pod.id)
    assert not again.status.ready
    assert found.ended == ()
    assert world.network.attached == {}
    status = new.parts.containers.get(container.id).status
    assert (status.state, status.exit_code, status.reason) == (ContainerState.STOPPED, 255, "Unknown")
    assert status.message == "the machine was restarted while it ran"
    await new.sandboxes.remove(pod.id)
    assert new.leftovers() == {}


async def test_a_stop_that_was_cut_off_is_done_again(world: World, tmp_path: Path) -> None:
    pod = await world.pod()
    world.parts.state.update_sandbox(pod, lambda status: replace(status, stopped_at=9))
    new = await world.restarted(tmp_path)
    found = await recover(new)
    assert [item.id for item in found.stopping] == [pod.id]
    assert list(world.network.attached) == [pod.id]
    await new.sandboxes.stop(pod.id)
    assert world.network.attached == {}


async def test_a_pod_without_its_namespaces_is_not_ready_but_its_container_runs_on(world: World, tmp_path: Path) -> None:
    pod, whole = await world.pod("one"), await world.pod("two")
    container = await world.running(pod, "stubborn")
    world.kernel.unpin(pod.metadata.namespaces.net)
    new = await world.restarted(tmp_path)
    found = await recover(new)
    assert [item.status.ready for item in new.parts.sandboxes.list()] == [False, True]
    assert new.parts.containers.get(container.id).status.state is ContainerState.RUNNING
    assert found.stopping == ()
    assert whole.id in new.network.attached
    again = await new.restarted(tmp_path)  # within the grace period that the client gives the container
    found = await recover(again)
    assert [item.status.ready for item in again.parts.sandboxes.list()] == [False, True]
    assert found.stopping == ()
    await again.containers.stop(container.id, 0)
    last = await again.restarted(tmp_path)
    assert [item.id for item in (await recover(last)).stopping] == [pod.id]


async def test_a_container_that_runs_though_recorded_as_ended_is_killed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await world.running(await world.pod(), "stubborn")
    world.parts.state.update_container(container, lambda status: replace(status, finished_at=9, exit_code=3))
    stopped: list[int] = []

    async def stop(container: Container, signal: int, timeout: float) -> None:
        stopped.append(signal)

    monkeypatch.setattr(world.runtime, "is_alive", lambda container: True)
    monkeypatch.setattr(world.runtime, "stop", stop)
    new = await world.restarted(tmp_path)
    await recover(new)
    assert stopped == [9]
    assert new.parts.containers.get(container.id).status.exit_code == 3


def half_made(world: World, identifier: str) -> None:
    """A pod and a container whose creations came to the line before the record."""
    for kind in ("pods", "containers"):
        (world.parts.run_root / kind / identifier / "x").mkdir(parents=True)
    world.parts.state.sandbox_directory(identifier).mkdir()
    world.parts.state.container_directory(identifier).mkdir()
    world.images.snapshots.add(identifier)
    world.network.attached[identifier] = ()


async def test_what_was_half_made_is_taken_apart(world: World, tmp_path: Path) -> None:
    half_made(world, "e" * 64)
    new = await world.restarted(tmp_path)
    assert (await recover(new)).discarded == 2
    assert new.leftovers() == {}


async def test_what_cannot_be_taken_apart_does_not_keep_the_daemon_from_starting(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pod = await world.pod()
    half_made(world, "e" * 64)
    new = await world.restarted(tmp_path)

    def refuse(identifier: str) -> None:
        raise OSError(16, os.strerror(16), identifier)

    monkeypatch.setattr(new.parts.state, "remove_container", refuse)
    monkeypatch.setattr(new.parts.state, "remove_sandbox", refuse)
    await recover(new)
    assert [item.id for item in new.parts.sandboxes.list()] == [pod.id]
    assert caplog.text.count("cannot remove leftovers") == 2


async def test_a_container_without_its_pod_is_discarded(world: World, tmp_path: Path) -> None:
    pod = await world.pod()
    await world.running(pod, "stubborn")
    damage(pod.metadata.directory / "record.json", pod.metadata.run_directory / "record.json")
    new = await world.restarted(tmp_path)
    assert (await recover(new)).containers == 0
    assert world.runtime.known() == 0
    assert world.network.attached == {}


async def test_a_container_without_its_pod_that_cannot_be_discarded_is_not_fatal(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Something in it is immutable, chattr(1)."""
    pod, whole = await world.pod("one"), await world.pod("two")
    await world.running(pod, "stubborn")
    kept = await world.running(whole, "stubborn")
    damage(pod.metadata.directory / "record.json", pod.metadata.run_directory / "record.json")
    new = await world.restarted(tmp_path)

    async def refuse(identifier: str) -> None:
        raise OSError(1, os.strerror(1), identifier)

    with monkeypatch.context() as immutable:
        immutable.setattr(new.parts.images, "release_rootfs", refuse)
        await recover(new)
    assert [item.id for item in new.parts.containers.list()] == [kept.id]
    assert "cannot remove" in caplog.text
    again = await new.restarted(tmp_path)
    await recover(again)
    await again.sandboxes.remove(whole.id)
    assert again.leftovers() == {}


@pytest.mark.parametrize("name", ["record.json", "status.json"])
async def test_what_runs_of_a_damaged_record_is_known_by_its_copy(world: World, tmp_path: Path, name: str) -> None:
    """It is tracked as before, and can be removed with its pod."""
    pod = await world.pod()
    container = await world.running(pod, "stubborn")
    damage(pod.metadata.directory / name, container.metadata.persist_directory / name)
    new = await world.restarted(tmp_path)
    assert await recover(new) == Recovered(sandboxes=1, containers=1, running=1, discarded=0)
    assert new.parts.containers.get(container.id).status == container.status
    await new.sandboxes.remove(pod.id)
    assert world.runtime.known() == 0
    assert new.leftovers() == {}


async def test_what_runs_of_a_damaged_record_without_a_copy_is_taken_apart(world: World, tmp_path: Path) -> None:
    """Nobody could stop it any more: its record is set aside."""
    pod, other = await world.pod("one"), await world.pod("two")
    container = await world.running(other, "stubborn")
    damage(*(directory / "status.json" for directory in (pod.metadata.directory, pod.metadata.run_directory)))
    damage(*(directory / "status.json" for directory in (container.metadata.persist_directory, container.metadata.bundle)))
    new = await world.restarted(tmp_path)
    await recover(new)
    assert world.runtime.known() == 0
    assert not container.metadata.bundle.exists()
    assert not pod.metadata.run_directory.exists()
    assert world.kernel.mounts_below(str(pod.metadata.run_directory)) == []
    await new.sandboxes.remove(other.id)
    assert new.leftovers() == {}


async def test_one_that_cannot_be_settled_is_not_fatal(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod: PodSandbox = await world.pod()
    lost, kept = await world.running(pod, "stubborn", name="a"), await world.running(pod, "stubborn", name="b")
    of = world.parts.runtime.of

    def of_others(container: Container) -> object:
        if container.id == lost.id:
            raise CridError("its process does not end")
        return of(container)

    monkeypatch.setattr(world.parts.runtime, "of", of_others)
    new = await world.restarted(tmp_path)
    found = await recover(new)
    assert (found.sandboxes, found.containers) == (1, 2)
    assert new.parts.containers.get(kept.id).status.state is ContainerState.RUNNING


@pytest.mark.parametrize("rebooted", [True, False], ids=["after a reboot", "while it runs"])
async def test_what_a_handler_left_that_is_no_longer_configured_is_known_watched_and_removed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, rebooted: bool
) -> None:
    with monkeypatch.context() as earlier:
        for module in (create, sandbox) if rebooted else ():
            earlier.setattr(module, "boot_id", lambda: "an earlier boot")
        pod = await world.sandboxes.run(pod_config(), "other")
        container, _ = [await world.running(pod, "stubborn", name=name) for name in "ab"]
    for known in (world.parts.runtime._handlers, world.parts.hosts):
        monkeypatch.delitem(known, "other")
    new = await world.restarted(tmp_path)
    await recover(new)
    expected = ContainerState.STOPPED if rebooted else ContainerState.RUNNING
    assert {item.status.state for item in new.parts.containers.list()} == {expected}
    watch = ExitWatch(new.parts, new.exits, new.containers.ended)
    watch.sweep()
    assert repr(watch) == f"<ExitWatch watched={0 if rebooted else 2} settling=0>"
    watch.close()
    await new.containers.remove(container.id)
    await new.sandboxes.remove(pod.id)
    assert new.leftovers() == {}
