"""What several listeners hear and make of it, in which order."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.hooks import Adjusted, NoHooks
from crid.lifecycle.listeners import Listeners
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from tests.unit.lifecycle.world import World, container_config, pod_config


class Scribe(NoHooks):
    """Writes down what it hears as `NAME moment`, leaves its mark on specs, and refuses what it is told to."""

    def __init__(self, name: str, notes: list[str], refuses: str = "") -> None:
        self.name = name
        self.notes = notes
        self.refuses = refuses
        self.gate: asyncio.Event | None = None

    def hear(self, moment: str) -> None:
        self.notes.append(f"{self.name} {moment}")
        if moment == self.refuses:
            raise FailedPreconditionError(f"{self.name} refuses {moment}")

    async def run_pod(self, sandbox: PodSandbox) -> None:
        self.hear("run_pod")

    async def pod_failed(self, sandbox: PodSandbox) -> None:
        self.hear("pod_failed")

    async def pod_created(self, sandbox: PodSandbox) -> None:
        self.hear("pod_created")

    async def create_container(self, container: Container, spec: Mapping[str, Any]) -> Adjusted:
        self.hear("create_container")
        resources = cri.LinuxContainerResources(cpu_shares=7) if self.name == "a" else None
        return Adjusted(
            {**spec, "annotations": {**spec["annotations"], "by": spec["annotations"].get("by", "") + self.name}}, resources
        )

    async def container_failed(self, container: Container) -> None:
        self.hear("container_failed")

    async def container_stopped(self, container: Container) -> None:
        self.hear("container_stopped")
        if self.gate is not None:
            await self.gate.wait()

    async def container_removed(self, container: Container) -> None:
        self.hear("container_removed")

    async def update_container(
        self, container: Container, resources: cri.LinuxContainerResources
    ) -> cri.LinuxContainerResources:
        return cri.LinuxContainerResources(cpu_shares=resources.cpu_shares + 1)


def heard(world: World, *scribes: Scribe) -> Listeners:
    """Have `scribes` listen in `world`."""
    listeners = Listeners(world.parts.supervisor, *scribes)
    world.parts = replace(world.parts, hooks=listeners)
    world.containers = ContainerLifecycle(world.parts, world.exits)
    world.sandboxes = SandboxLifecycle(world.parts, world.containers)
    return listeners


async def test_each_sees_what_the_one_before_has_made(world: World) -> None:
    notes: list[str] = []
    heard(world, Scribe("a", notes), Scribe("b", notes))
    container = await world.containers.create((await world.pod()).id, container_config())
    assert b'"by":"ab"' in (container.metadata.bundle / "config.json").read_bytes()
    assert container.status.resources == cri.LinuxContainerResources(cpu_shares=7)
    await world.containers.update_resources(container.id, cri.LinuxContainerResources(cpu_shares=10))
    assert container.status.resources == cri.LinuxContainerResources(cpu_shares=12)
    assert notes == [f"{name} {moment}" for moment in ("run_pod", "pod_created", "create_container") for name in "ab"]


async def test_a_refusal_spares_the_rest_the_question_and_all_hear_that_it_failed(world: World) -> None:
    notes: list[str] = []
    heard(world, Scribe("a", notes, refuses="run_pod"), Scribe("b", notes))
    with pytest.raises(FailedPreconditionError, match="a refuses run_pod"):
        await world.sandboxes.run(pod_config(), "")
    assert notes == ["a run_pod", "a pod_failed", "b pod_failed"]


async def test_an_end_is_told_once_and_everyone_waits_for_it(world: World) -> None:
    notes: list[str] = []
    scribe = Scribe("a", notes)
    listeners = heard(world, scribe)
    container = await world.running(await world.pod())
    scribe.gate = asyncio.Event()
    stopping = [asyncio.create_task(world.containers.stop(container.id, 0)) for _ in range(2)]
    while "a container_stopped" not in notes:
        await asyncio.sleep(0)
    assert not any(task.done() for task in stopping)
    scribe.gate.set()
    await asyncio.gather(*stopping)
    await listeners.container_stopped(container)
    assert notes.count("a container_stopped") == 1


async def test_ends_from_before_are_not_told(world: World) -> None:
    notes: list[str] = []
    container = await world.running(await world.pod())
    await world.containers.stop(container.id, 0)
    listeners = heard(world, Scribe("a", notes))
    listeners.ended_before([container.id])
    await world.containers.remove(container.id)
    assert notes == ["a container_removed"]
    assert not listeners._ends  # nothing is kept of what is gone
