"""Creating, stopping and recovering real containers: faults halfway, leftovers, the records of an end."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.errors import CridError, DeadlineExceededError, UnavailableError
from crid.linux import process
from crid.model.container import Container
from crid.oci import control, descendants
from crid.oci.exits import read_exit
from crid.oci.placement import WithDaemon
from tests.harness.procfs import naming
from tests.harness.tools import until
from tests.integration.oci.lab import CGROUP, Lab

pytestmark = pytest.mark.root

FREEZER = Path("/sys/fs/cgroup/freezer")


def script(lab: Lab, name: str, text: str) -> Path:
    path = lab.directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path


async def gone(lab: Lab, identifier: str) -> None:
    """Assert that nothing of the container is left: processes, cgroups, runtime state, links."""
    for _ in range(600):
        if not naming(identifier):
            break
        await asyncio.sleep(0.05)
    assert not naming(identifier)
    assert not list(Path("/sys/fs/cgroup").glob(f"memory/{CGROUP}/{identifier}"))
    assert not list(lab.paths.attach_sockets.iterdir())
    assert not (lab.directory / "runtime" / identifier).exists()


async def test_cancelled_create_leaves_nothing(lab: Lab) -> None:
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.03):
        container = lab.new("stubborn")
        work = asyncio.create_task(lab.runtime.create(container))
        await asyncio.sleep(delay)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
            await lab.runtime.delete(container)
        await gone(lab, container.id)


async def test_create_that_hangs_is_ended(lab: Lab) -> None:
    assert lab.program is not None
    slow = script(lab, "slow-runtime", f'#!/bin/sh\ncase "$*" in *create*) sleep 4242;; esac\nexec {lab.program.path} "$@"\n')
    other = Lab(lab.kind, create_timeout=0.5)
    try:
        assert other.program is not None
        other.runtime._command.program = other.program.__class__(  # type: ignore[attr-defined]  # RuntimeOCI's own
            name="slow", path=slow, root=other.program.root, monitor=other.program.monitor, create_timeout=0.5
        )
        container = other.new("stubborn")
        with pytest.raises(DeadlineExceededError, match=r"0\.5 s"):
            await other.runtime.create(container)
        await gone(other, container.id)
    finally:
        await other.close()


async def test_a_monitor_that_cannot_be_run(lab: Lab) -> None:
    assert lab.program is not None
    for text in ("#!/nonexistent\n", "#!/bin/sh\necho out of order >&2; exit 1\n"):
        monitor = script(lab, "broken-monitor", text)
        lab.runtime._command.program = lab.program.__class__(  # type: ignore[attr-defined]  # RuntimeOCI's own
            name="broken", path=lab.program.path, root=lab.program.root, monitor=monitor
        )
        container = lab.new("stubborn")
        with pytest.raises(UnavailableError, match="monitor"):
            await lab.runtime.create(container)
        await gone(lab, container.id)


async def test_a_monitor_that_cannot_be_placed(lab: Lab) -> None:
    class Refusing(WithDaemon):
        async def place_monitor(self, container: Container, pid: int) -> None:
            raise CridError("no such cgroup")

    lab.runtime._creation._placement = Refusing()  # type: ignore[attr-defined]  # RuntimeOCI's own
    container = lab.new("stubborn")
    with pytest.raises(CridError, match="no such cgroup"):
        await lab.runtime.create(container)
    await gone(lab, container.id)
    assert not descendants.children(os.getpid())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"args": ["/etc"]}, "permi|directory"),
        ({"args": ["no-such-program"]}, "no-such-program"),
        ({"args": ["/bin/true"], "user": {"uid": 0, "gid": 0}, "cwd": "/bin/true"}, "true|directory"),
    ],
)
async def test_a_process_that_cannot_be_made(lab: Lab, change: dict[str, object], words: str) -> None:
    container = lab.new("true", change=lambda config: config["process"].update(change))
    with pytest.raises(CridError, match=f"(?i){words}"):
        await lab.runtime.create(container)
    await gone(lab, container.id)


def host_pids(config: dict[str, Any]) -> None:
    """Have a container without a PID namespace of its own."""
    config["linux"]["namespaces"] = [space for space in config["linux"]["namespaces"] if space["type"] != "pid"]


async def test_children_without_a_pid_namespace_are_ended_too(lab: Lab) -> None:
    container = await lab.run("sh", "-c", "setsid sleep 424242 & exec sleep 424243", change=host_pids)
    await until(lambda: naming("sleep\x00424242"), "the child runs")  # not only the shell, which has it in its script
    await lab.runtime.stop(container, 15, 2)
    await until(lambda: not naming("sleep\x00424242"), "the child is gone")
    assert not process.is_alive(container.status.process)


@pytest.mark.parametrize("first", ["kill", "delete"])
async def test_what_is_left_running_is_not_killed_during_a_deletion(lab: Lab, first: str) -> None:
    """Nor the other way round: while runc kills all processes of a container it has frozen it, and its deletion fails."""
    assert lab.program is not None
    said = lab.directory / "said"
    telling = script(
        lab,
        "telling-runtime",
        "#!/bin/sh\nfor verb; do case $verb in kill|delete) break;; esac; verb=; done\n"
        f'[ "$verb" ] || exec {lab.program.path} "$@"\n'
        f'echo $verb begins >>{said}; sleep 0.3; {lab.program.path} "$@"; code=$?; echo $verb ends >>{said}; exit $code\n',
    )
    container = await lab.run("true", change=host_pids)
    await lab.wait_exit(container)
    lab.runtime._command.program = replace(lab.program, path=telling)  # type: ignore[attr-defined]  # RuntimeOCI's own
    doing = {"kill": lambda: lab.runtime.stop(container, 9, 0), "delete": lambda: lab.runtime.delete(container)}
    under_way = asyncio.create_task(doing.pop(first)())
    await until(lambda: said.exists() and f"{first} begins" in said.read_text(), "it has begun")
    (then,) = doing
    await doing[then]()
    await under_way
    assert said.read_text().split("\n")[:-1] == [f"{verb} {what}" for verb in (first, then) for what in ("begins", "ends")]


async def test_the_end_is_recorded_twice(lab: Lab) -> None:
    began = time.time_ns()
    container = await lab.run("sh", "-c", "exit 42")
    noticed = await lab.wait_exit(container)
    kept = read_exit(container)
    assert kept is not None
    assert (noticed.exit_code, kept.exit_code) == (42, 42)
    for finished_at in (noticed.finished_at, kept.finished_at):  # one is written after the other, whenever that is
        assert began - 10**9 < finished_at <= time.time_ns()


async def test_log_is_written_and_reopened(lab: Lab) -> None:
    container = await lab.run("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done")
    log = Path(container.metadata.log_path)
    await until(log.read_bytes, "there are lines in the first file")
    old = log.rename(f"{log}.1")
    await lab.runtime.reopen_log(container)
    await until(log.read_bytes, "there are lines in the second file")
    await lab.runtime.stop(container, 15, 0)
    await lab.wait_exit(container)
    numbers = [int(line.split()[-1]) for path in (old, log) for line in path.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert log.read_text()


async def test_reopening_by_a_dead_monitor(lab: Lab) -> None:
    container = await lab.run("stubborn")
    monitor = container.status.monitor
    assert monitor is not None
    process.send_signal(monitor, 9)
    await process.wait_gone(monitor)
    with pytest.raises(UnavailableError, match="monitor"):
        await lab.runtime.reopen_log(container)
    await lab.runtime.stop(container, 15, 0)
    assert not lab.runtime.is_alive(container)


async def test_reopening_by_a_monitor_that_hangs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REOPEN_TIMEOUT", 0.1)
    container = await lab.run("stubborn")
    monitor = container.status.monitor
    assert monitor is not None
    process.send_signal(monitor, signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineExceededError, match=r"its monitor did not reopen .* within 0\.1 s"):
            await lab.runtime.reopen_log(container)
    finally:
        process.send_signal(monitor, signal.SIGCONT)
    await lab.runtime.stop(container, 15, 0)
    await lab.wait_exit(container)


async def test_update_changes_the_cgroup(lab: Lab) -> None:
    container = await lab.run("stubborn")
    await lab.runtime.update(container, {"memory": {"limit": 96 << 20}})
    assert container.status.process is not None
    files = [*Path("/sys/fs/cgroup").glob(f"memory/{CGROUP}/{container.id}/memory.limit_in_bytes")]
    files += [*Path("/sys/fs/cgroup").glob(f"{CGROUP}/{container.id}/memory.max")]
    assert [int(path.read_text()) for path in files] == [96 << 20]
    with pytest.raises(CridError, match="memory"):
        await lab.runtime.update(container, {"memory": {"limit": 1}})


@pytest.mark.skipif(not FREEZER.is_dir(), reason="only cgroup v1 has a freezer in which a process takes no SIGKILL")
async def test_a_process_that_no_signal_ends_is_told_of_and_ends_later(lab: Lab) -> None:
    """Frozen from above, where nobody thaws it, it is in state D, as one that waits for a dead NFS server."""
    assert lab.program is not None
    lab.runtime._command.program = replace(lab.program, stop_timeout=0.3)  # type: ignore[attr-defined]  # RuntimeOCI's own
    container = await lab.run("stubborn")
    first = container.status.process
    assert first is not None
    state = FREEZER / CGROUP / "freezer.state"
    state.write_text("FROZEN")
    try:
        own = FREEZER / CGROUP / container.id / "freezer.state"
        await until(lambda: own.read_text() == "FROZEN\n", "the process is frozen, which it is when it next runs")
        for _ in range(2):  # the second one joins
            with pytest.raises(DeadlineExceededError, match=f"process {first.pid} was killed .* in state D"):
                await lab.runtime.stop(container, 15, 0)
        assert lab.runtime.is_alive(container)
    finally:
        state.write_text("THAWED")
    await lab.runtime.stop(container, 15, 0)
    assert (await lab.wait_exit(container)).exit_code == 137
