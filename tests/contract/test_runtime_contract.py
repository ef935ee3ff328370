"""What `crid.oci.runtime` promises, asked of every runtime: crun and runc, under crid's monitor and Debian's, and the fake."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from crid.errors import CridError, FailedPreconditionError, NotFoundError
from crid.linux import process
from crid.model.container import Container
from crid.oci.runtime import CheckpointOptions
from tests.harness.tools import PATIENCE, until
from tests.integration.oci.lab import Client, Lab, descriptors, feed, open_lab

KINDS = ["crun+crid", "runc+crid", "crun+stock", "fake"]

pytestmark = pytest.mark.root


@pytest_asyncio.fixture(params=KINDS)
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with open_lab(request.param) as lab:
        yield lab


# create, start, delete, ends


async def test_created_process_waits_until_started(lab: Lab) -> None:
    container = await lab.create("stubborn")
    assert (await lab.runtime.update_status(container)).state == "created"
    assert lab.runtime.is_alive(container)
    await lab.runtime.start(container)
    observed = await lab.runtime.update_status(container)
    assert container.status.process is not None
    assert (observed.state, observed.pid) == ("running", container.status.process.pid)


async def test_second_start_is_refused(lab: Lab) -> None:
    container = await lab.run("stubborn")
    with pytest.raises(FailedPreconditionError, match=container.id[:13]):
        await lab.runtime.start(container)
    assert lab.runtime.is_alive(container)


async def test_start_of_an_unknown_container(lab: Lab) -> None:
    with pytest.raises(NotFoundError):
        await lab.runtime.start(lab.new("stubborn"))


async def test_failed_create_says_why_and_leaves_nothing(lab: Lab) -> None:
    container = lab.new("/nope")
    before = sorted(path.name for path in container.metadata.bundle.iterdir())
    with pytest.raises(CridError, match="/nope") as caught:
        await lab.runtime.create(container)
    assert container.id[:13] in str(caught.value)
    assert sorted(path.name for path in container.metadata.bundle.iterdir()) == before
    assert not Path(container.metadata.log_path).exists()
    with pytest.raises(NotFoundError):
        await lab.runtime.update_status(container)


async def test_delete_kills_and_forgets_and_may_be_repeated(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.runtime.delete(container)
    assert not lab.runtime.is_alive(container)
    assert not process.is_alive(container.status.monitor)
    with pytest.raises(NotFoundError):
        await lab.runtime.update_status(container)
    await lab.runtime.delete(container)


async def test_delete_of_a_created_container(lab: Lab) -> None:
    container = await lab.create("stubborn")
    await lab.runtime.delete(container)
    assert not lab.runtime.is_alive(container)


async def test_exit_is_reported_with_its_code(lab: Lab) -> None:
    began = time.time_ns()
    container = await lab.run("false")
    found = await lab.wait_exit(container)
    assert (found.exit_code, found.oom_killed) == (1, False)
    assert began - 10**9 < found.finished_at <= time.time_ns()


async def test_an_end_is_told_to_who_watches_for_it(lab: Lab) -> None:
    container = await lab.run("stubborn")
    told: list[str] = []
    lab.runtime.watch_end(container, lambda: told.append("the end"))
    forget = lab.runtime.watch_end(container, lambda: told.append("nobody's business"))
    await asyncio.sleep(0.05)
    assert not told
    forget()
    await lab.runtime.stop(container, 9, 0)
    await until(lambda: told, "the end is told")
    forget()
    lab.runtime.watch_end(container, lambda: told.append("it had ended before"))
    lab.runtime.watch_end(container, lambda: told.append("nobody's business"))()
    await until(lambda: len(told) == 2, "an end before the watch is told")
    assert told == ["the end", "it had ended before"]


async def test_somebody_else_with_the_pid_is_not_alive(lab: Lab) -> None:
    container = await lab.run("stubborn")
    recorded = container.status
    assert recorded.process is not None
    container.publish(replace(recorded, process=replace(recorded.process, start_time=recorded.process.start_time + 1)))
    assert not lab.runtime.is_alive(container)
    container.publish(recorded)
    assert lab.runtime.is_alive(container)


# stop and signal


async def stopped(lab: Lab, container: Container) -> int:
    assert not lab.runtime.is_alive(container)
    return (await lab.wait_exit(container)).exit_code


async def test_stop_lets_the_process_end_by_itself(lab: Lab) -> None:
    container = await lab.run("obedient")
    await lab.ready(container)
    await lab.runtime.stop(container, 15, 60)
    assert await stopped(lab, container) == 7


async def test_stop_kills_after_the_grace_period(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.begun(container, "stubborn")
    await lab.runtime.stop(container, 15, 0.3)
    assert await stopped(lab, container) == 128 + 9


async def test_stop_without_grace_kills_at_once(lab: Lab) -> None:
    container = await lab.run("obedient")
    await lab.ready(container)
    await lab.runtime.stop(container, 15, 0)
    assert await stopped(lab, container) == 128 + 9


async def test_stop_of_a_stopped_container_does_nothing(lab: Lab) -> None:
    container = await lab.run("true")
    await lab.wait_exit(container)
    await lab.runtime.stop(container, 15, 60)
    await lab.runtime.signal(container, 15)
    await lab.runtime.delete(container)
    await lab.runtime.stop(container, 15, 60)


async def test_second_stop_joins_and_shortens(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.begun(container, "stubborn")
    first = asyncio.create_task(lab.runtime.stop(container, 15, 600))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(lab.runtime.stop(container, 15, 0.1), PATIENCE)
    await asyncio.wait_for(first, PATIENCE)
    assert await stopped(lab, container) == 128 + 9


async def test_second_stop_cannot_prolong(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.begun(container, "stubborn")
    first = asyncio.create_task(lab.runtime.stop(container, 15, 0.5))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(lab.runtime.stop(container, 15, 600), PATIENCE)
    await first


async def test_cancelled_stop_does_not_kill_later(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.begun(container, "stubborn")
    stop = asyncio.create_task(lab.runtime.stop(container, 15, 2))
    for _ in range(10):  # it is under way then, and the grace period is not over, as it may be after a pause
        await asyncio.sleep(0)
    stop.cancel()
    await asyncio.wait((stop,))
    await asyncio.sleep(2.2)
    assert lab.runtime.is_alive(container)
    await lab.runtime.stop(container, 15, 0.1)  # and a new one works
    assert not lab.runtime.is_alive(container)


async def test_cancelled_stop_leaves_it_to_who_still_waits(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.begun(container, "stubborn")
    first = asyncio.create_task(lab.runtime.stop(container, 15, 0.5))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(lab.runtime.stop(container, 15, 600))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.wait_for(second, PATIENCE)
    assert not lab.runtime.is_alive(container)


async def test_other_verbs_work_while_a_stop_waits(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.begun(container, "stubborn")
    stop = asyncio.create_task(lab.runtime.stop(container, 15, 600))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(PATIENCE):
        assert (await lab.runtime.exec_sync(container, ["echo", "still"], PATIENCE)).stdout == b"still\n"
        assert lab.runtime.stats(container).timestamp
        assert (await lab.runtime.update_status(container)).state == "running"
        await lab.runtime.reopen_log(container)
        client = Client()
        assert await lab.runtime.exec(container, ["echo", "there"], client.streams, tty=False) == 0
        await lab.runtime.stop(container, 15, 0)
        await stop


async def test_signal_reaches_the_first_process(lab: Lab) -> None:
    container = await lab.run("obedient")
    await lab.ready(container)
    await lab.runtime.signal(container, 10)
    assert (await lab.wait_exit(container)).exit_code == 7


# pause, update


async def test_pause_and_unpause(lab: Lab) -> None:
    container = await lab.run("stubborn")
    with pytest.raises(FailedPreconditionError):
        await lab.runtime.unpause(container)
    await lab.runtime.pause(container)
    async with asyncio.timeout(PATIENCE):  # cgroup v1 freezes processes when they next run
        while (await lab.runtime.update_status(container)).state != "paused":
            await asyncio.sleep(0.01)
    with pytest.raises(FailedPreconditionError):
        await lab.runtime.pause(container)
    await lab.runtime.unpause(container)
    assert (await lab.runtime.update_status(container)).state == "running"


@pytest.mark.parametrize("recorded", [True, False])
async def test_stop_of_a_paused_container(lab: Lab, recorded: bool) -> None:
    container = await lab.run("stubborn")
    await lab.begun(container, "stubborn")
    await lab.runtime.pause(container)
    container.publish(replace(container.status, paused=recorded))
    await asyncio.wait_for(lab.runtime.stop(container, 15, 0.2), PATIENCE)
    assert not lab.runtime.is_alive(container)


async def test_update_of_an_unknown_container(lab: Lab) -> None:
    with pytest.raises(NotFoundError):
        await lab.runtime.update(lab.new("stubborn"), {"memory": {"limit": 64 << 20}})


# exec_sync


async def test_exec_sync_returns_output_and_exit_code(lab: Lab) -> None:
    container = await lab.run("stubborn")
    result = await lab.runtime.exec_sync(container, ["echo", "-n", "hello"], PATIENCE)
    assert (result.stdout, result.stderr, result.exit_code, result.timed_out) == (b"hello", b"", 0, False)
    assert (await lab.runtime.exec_sync(container, ["false"], PATIENCE)).exit_code == 1


async def test_exec_sync_timeout_is_a_result(lab: Lab) -> None:
    container = await lab.run("stubborn")
    result = await lab.runtime.exec_sync(container, ["sleep", "999"], 1)
    assert (result.exit_code, result.timed_out) == (-1, True)
    assert b"timed out" in result.stderr


async def test_exec_sync_of_a_missing_command_is_an_error(lab: Lab) -> None:
    container = await lab.run("stubborn")
    with pytest.raises(CridError, match="/nope"):
        await lab.runtime.exec_sync(container, ["/nope"], PATIENCE)


async def test_exec_sync_in_a_stopped_container(lab: Lab) -> None:
    container = await lab.run("true")
    await lab.wait_exit(container)
    with pytest.raises(FailedPreconditionError):
        await lab.runtime.exec_sync(container, ["true"], PATIENCE)


async def test_exec_sync_leaves_no_descriptors(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.runtime.exec_sync(container, ["true"], PATIENCE)
    before = descriptors()
    await asyncio.gather(*(lab.runtime.exec_sync(container, ["true"], PATIENCE) for _ in range(8)))
    await until(lambda: descriptors() <= before, "monitors are reaped behind the result")


# exec, attach


async def test_exec_carries_streams(lab: Lab) -> None:
    container = await lab.run("stubborn")
    client = Client(feed(b"one\n", b"two\n"))
    assert await lab.runtime.exec(container, ["cat"], client.streams, tty=False) == 0
    assert bytes(client.stdout) == b"one\ntwo\n"
    assert not client.stderr


async def test_exec_ends_though_stdin_stays_open(lab: Lab) -> None:
    container = await lab.run("stubborn")
    client = Client(feed(then=asyncio.Event().wait()))
    async with asyncio.timeout(PATIENCE):
        assert await lab.runtime.exec(container, ["false"], client.streams, tty=False) == 1


async def test_exec_is_killed_when_cancelled(lab: Lab) -> None:
    container = await lab.run("stubborn")
    work = asyncio.create_task(lab.runtime.exec(container, ["sleep", "4242"], Client().streams, tty=False))
    await lab.runs(container, "4242")
    work.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await work


async def test_exec_of_a_missing_command_tells_the_client(lab: Lab) -> None:
    container = await lab.run("stubborn")
    client = Client()
    assert await lab.runtime.exec(container, ["/nope"], client.streams, tty=False) != 0
    assert b"/nope" in client.stderr


async def test_stop_ends_running_commands(lab: Lab) -> None:
    container = await lab.run("stubborn")
    work = asyncio.create_task(lab.runtime.exec(container, ["sleep", "4242"], Client().streams, tty=False))
    await lab.runs(container, "4242")
    await lab.runtime.stop(container, 15, 0)
    async with asyncio.timeout(PATIENCE):
        assert await work == 128 + 9


async def test_attach_returns_when_the_container_ends(lab: Lab) -> None:
    container = await lab.run("stubborn")
    attached = asyncio.create_task(lab.runtime.attach(container, Client().streams))
    await asyncio.sleep(0)
    await lab.runtime.stop(container, 15, 0)
    await asyncio.wait_for(attached, PATIENCE)


async def test_attach_to_a_stopped_container(lab: Lab) -> None:
    container = await lab.run("true")
    await lab.wait_exit(container)
    with pytest.raises(FailedPreconditionError):
        await lab.runtime.attach(container, Client().streams)


# logs, checkpoints


async def test_reopen_log_makes_a_new_file(lab: Lab) -> None:
    container = await lab.run("stubborn")
    log = Path(container.metadata.log_path)
    log.rename(f"{log}.1")
    await lab.runtime.reopen_log(container)
    assert log.exists()
    await lab.runtime.reopen_log(container)  # not rotated: there already, and no error


async def test_reopen_log_of_a_stopped_container(lab: Lab) -> None:
    container = await lab.run("true")
    await lab.wait_exit(container)
    with pytest.raises(FailedPreconditionError):
        await lab.runtime.reopen_log(container)


async def test_restore_without_an_image(lab: Lab) -> None:
    with pytest.raises(NotFoundError):
        await lab.runtime.restore(lab.new("stubborn"), CheckpointOptions(lab.directory / "none"))


async def test_checkpoint_of_a_stopped_container(lab: Lab) -> None:
    container = await lab.run("true")
    await lab.wait_exit(container)
    with pytest.raises(FailedPreconditionError):
        await lab.runtime.checkpoint(container, CheckpointOptions(lab.directory / "image"))
