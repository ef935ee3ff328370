"""Removing leftovers by the ordinary functions, and only those."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crid.errors import CridError
from crid.lifecycle.check.compare import leftovers
from crid.lifecycle.check.facts import Kind, Trace
from crid.lifecycle.leftovers import Leftovers
from crid.linux.process import identify, is_alive
from crid.model.container import Container
from crid.model.process import ProcessIdentity
from crid.oci import descendants
from tests.harness.tools import PATIENCE, eventually, until
from tests.unit.lifecycle.world import World

STRAY = "e" * 64


async def removed(world: World) -> int:
    removing = Leftovers(world.parts, world.places)
    return await removing.remove(leftovers(await removing.look()))


async def test_what_is_known_stays(world: World) -> None:
    pod = await world.pod()
    await world.running(pod, "stubborn")
    assert await removed(world) == 0
    assert pod.status.ready
    assert world.runtime.known() == 1


async def test_a_stopped_pods_mounts_are_released_again(world: World) -> None:
    """Its record says that all was given back; something came in between."""
    pod = await world.pod()
    world.parts.state.update_sandbox(pod, lambda status: replace(status, stopped_at=1, network_released=True))
    assert await removed(world) == 1
    assert world.kernel.mounts == []
    assert world.network.attached == {}
    assert pod.metadata.run_directory.exists()


async def test_a_half_made_pod_takes_its_own_cgroup_along(world: World) -> None:
    (world.parts.run_root / "pods" / STRAY).mkdir(parents=True)
    assert await removed(world) == 1
    assert world.hierarchy.removed == [f"crid/{STRAY}"]
    assert not (world.parts.run_root / "pods" / STRAY).exists()


async def test_a_half_made_container_is_deleted_with_the_cgroup_that_its_bundle_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world.parts.run_root / "runtimes" / "other" / STRAY
    bundle = world.parts.run_root / "containers" / STRAY
    for directory in (state, bundle):
        directory.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": "/kubepods/x/crid-e"}}))
    deleted: list[tuple[str, str]] = []

    async def delete(container: Container) -> None:
        deleted.append((container.metadata.runtime_handler, container.metadata.cgroup_path))
        raise CridError("the runtime does not know its own half-made state")

    monkeypatch.setattr(world.runtime, "delete", delete)
    places = replace(world.places, runtime_roots={"fake": state.parents[1] / "fake", "other": state.parent})
    removing = Leftovers(world.parts, places)
    assert await removing.remove(leftovers(await removing.look())) == 1
    assert deleted == [("other", "/kubepods/x/crid-e")]
    assert not state.exists()
    assert not bundle.exists()


def pretender(*words: str) -> "subprocess.Popen[bytes]":
    """A process that calls itself conmon, with a child: it has its command line when this returns."""
    script = "import subprocess, time; subprocess.Popen(['sleep', '100']); time.sleep(100)"
    begun = subprocess.Popen(["conmon", "-c", script, *words], executable=sys.executable)
    eventually(Path(f"/proc/{begun.pid}/cmdline").read_bytes, "the program has begun")
    return begun


async def test_a_monitor_of_nobody_is_ended_with_what_is_below_it(world: World, tmp_path: Path) -> None:
    bundle = world.parts.run_root / "containers" / STRAY
    bundle.mkdir(parents=True)
    with pretender("-b", str(bundle)) as monitor, pretender("-b", f"/elsewhere/{STRAY}") as foreign:
        try:
            other = identify(foreign.pid)
            assert await removed(world) == 1
            assert monitor.wait(PATIENCE) == -9
            assert is_alive(other)
            assert not bundle.exists()
        finally:
            monitor.kill()
            foreign.kill()


async def test_commands_without_a_client_are_ended_and_their_files_removed(world: World, tmp_path: Path) -> None:
    container = await world.running(await world.pod(), "stubborn")
    file = container.metadata.bundle / "exec-1-1.pid"
    file.touch()
    with pretender("-e", "-p", str(file)) as command:
        try:
            assert await Leftovers(world.parts, world.places).end_commands() == 1
            assert command.wait(PATIENCE) == -9
        finally:
            command.kill()
    assert not file.exists()


@pytest.mark.parametrize(("patience", "exit_code"), [(30.0, 0), (0.1, -9)])
async def test_short_commands_are_waited_for_and_killed_only_if_they_hang(
    world: World, monkeypatch: pytest.MonkeyPatch, patience: float, exit_code: int
) -> None:
    monkeypatch.setattr("crid.lifecycle.leftovers.COMMAND_PATIENCE", patience)
    with subprocess.Popen(["sleep", "0.3" if exit_code == 0 else "1000"]) as command:
        trace = Trace("container", STRAY, Kind.COMMAND, "(process)", identify(command.pid))
        monkeypatch.setattr("crid.lifecycle.leftovers.local_traces", lambda places, mounts: [trace])
        assert await Leftovers(world.parts, world.places).end_commands() == 0
        assert command.wait(PATIENCE) == exit_code


async def test_what_is_below_another_process_with_the_number_lives_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has ended since it was found, and its number has been given to somebody else, who has children."""
    with pretender() as somebody:
        try:
            await until(lambda: descendants.descendants(somebody.pid), "it has a child")
            (child,) = descendants.descendants(somebody.pid)
            trace = Trace("container", STRAY, Kind.EXEC, "(process)", ProcessIdentity(somebody.pid, 1))
            monkeypatch.setattr("crid.lifecycle.leftovers.local_traces", lambda places, mounts: [trace])
            await Leftovers(world.parts, world.places).end_commands()
            assert is_alive(child)
        finally:
            await descendants.end_below(somebody.pid, timeout=PATIENCE)
            somebody.kill()
