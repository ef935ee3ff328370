"""The use cases with plugins, over fakes of everything but the socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.cri import nri_pb2 as nri
from crid.errors import CridError, InvalidArgumentError
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.listeners import Listeners
from crid.lifecycle.nri_hooks import NriHooks
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.nri.plugin import Timeouts
from tests.harness.nri_plugin import ScriptedPlugin, refusal
from tests.harness.tools import PATIENCE
from tests.unit.lifecycle.world import World, container_config, pod_config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nri.sock"


@pytest.fixture
async def hooked(world: World, path: Path) -> AsyncIterator[World]:
    """A world in which plugins may connect to `path`."""
    parts = world.parts
    timeouts = Timeouts(PATIENCE, PATIENCE)
    hooks = NriHooks(parts.sandboxes, parts.containers, parts.supervisor, timeouts, parts.cdi.edits, parts.classes)
    world.parts = replace(parts, hooks=Listeners(parts.supervisor, hooks))
    world.containers = ContainerLifecycle(world.parts, world.exits)
    world.sandboxes = SandboxLifecycle(world.parts, world.containers)
    await hooks.start(path, world.containers)
    yield world
    await hooks.stop()


async def test_an_adjustment_is_in_the_spec_and_in_the_status(hooked: World, path: Path) -> None:
    adjust = nri.ContainerAdjustment(env=[nri.KeyValue(key="A", value="b")])
    adjust.linux.resources.cpu.shares.value = 77
    adjust.linux.cgroups_path = "/elsewhere"
    async with ScriptedPlugin(answers={"CreateContainer": nri.CreateContainerResponse(adjust=adjust)}).ready(path):
        pod = await hooked.sandboxes.run(pod_config(), "")
        container = await hooked.containers.create(pod.id, container_config())
    spec = json.loads((container.metadata.bundle / "config.json").read_bytes())
    assert "A=b" in spec["process"]["env"]
    assert spec["linux"]["resources"]["cpu"]["shares"] == 77
    assert container.status.resources is not None
    assert container.status.resources.cpu_shares == 77
    assert container.metadata.cgroup_path == "/elsewhere"


@pytest.mark.parametrize("by", ["validator", "clash"])
async def test_what_plugins_object_to_is_not_created(hooked: World, path: Path, by: str) -> None:
    adjusting = nri.CreateContainerResponse(adjust=nri.ContainerAdjustment(args=["x"]))
    reject = nri.ValidateContainerAdjustmentResponse(reject=True, reason="never")
    other = {"CreateContainer": adjusting} if by == "clash" else {"ValidateContainerAdjustment": reject}
    pod = await hooked.sandboxes.run(pod_config(), "")
    before = hooked.leftovers()
    async with (
        ScriptedPlugin("00", "a", answers={"CreateContainer": adjusting}).ready(path) as first,
        ScriptedPlugin("01", "b", answers=other).ready(path),
    ):
        with pytest.raises(CridError, match="both set Args" if by == "clash" else "01-b rejects the adjustments: never"):
            await hooked.containers.create(pod.id, container_config())
        assert first.methods()[-2:] == ["StopContainer", "RemoveContainer"]
    assert hooked.leftovers() == before


@pytest.mark.parametrize(("field", "what"), [("cpus", "CPU"), ("mems", "memory node")])
async def test_cpus_that_are_not_there_are_refused_whoever_asks_for_them(
    hooked: World, path: Path, field: str, what: str
) -> None:
    adjust = nri.ContainerAdjustment()
    setattr(adjust.linux.resources.cpu, field, "0,4095")
    pod = await hooked.sandboxes.run(pod_config(), "")
    before = hooked.leftovers()
    async with ScriptedPlugin("07", "pin", answers={"CreateContainer": nri.CreateContainerResponse(adjust=adjust)}).ready(path):
        with pytest.raises(InvalidArgumentError, match=rf"NRI plugin 07-pin: .*cpuset_{field}: there is no {what} 4095"):
            await hooked.containers.create(pod.id, container_config())
    assert hooked.leftovers() == before


async def test_an_update_is_what_the_plugin_makes_of_it(hooked: World, path: Path) -> None:
    pod = await hooked.sandboxes.run(pod_config(), "")
    container = await hooked.containers.create(pod.id, container_config())
    mine = nri.ContainerUpdate(container_id=container.id)
    mine.linux.resources.cpu.quota.value = 5000
    async with ScriptedPlugin(answers={"UpdateContainer": nri.UpdateContainerResponse(update=[mine])}).ready(path) as plugin:
        await hooked.containers.update_resources(container.id, cri.LinuxContainerResources(cpu_quota=9000, cpu_shares=9))
        assert plugin.last("UpdateContainer").linux_resources.cpu.quota.value == 9000
        assert plugin.methods() == ["UpdateContainer", "PostUpdateContainer"]
    assert container.status.resources is not None
    assert (container.status.resources.cpu_quota, container.status.resources.cpu_shares) == (5000, 9)


async def test_a_refused_start_leaves_the_container_to_be_started_again(hooked: World, path: Path) -> None:
    pod = await hooked.sandboxes.run(pod_config(), "")
    container = await hooked.containers.create(pod.id, container_config())
    async with ScriptedPlugin(answers={"StartContainer": refusal("later")}).ready(path) as plugin:
        with pytest.raises(CridError, match="later"):
            await hooked.containers.start(container.id)
        del plugin.answers["StartContainer"]
        await hooked.containers.start(container.id)


async def test_a_plugin_that_comes_while_a_container_is_made_finds_it(hooked: World, path: Path) -> None:
    pod = await hooked.sandboxes.run(pod_config(), "")
    gate = hooked.runtime.verbs.close_gate("create")
    creating = asyncio.create_task(hooked.containers.create(pod.id, container_config()))
    await hooked.runtime.verbs.reached("create")
    async with ScriptedPlugin().ready(path) as plugin:
        (told,) = plugin.last("Synchronize").containers
        gate.set()
        assert (await creating).id == told.id
        assert plugin.methods() == ["PostCreateContainer"]


async def test_a_refused_pod_is_not_there_and_others_may_be(hooked: World, path: Path) -> None:
    nothing = hooked.leftovers()
    async with ScriptedPlugin(answers={"RunPodSandbox": refusal("no")}).ready(path) as plugin:
        with pytest.raises(CridError, match="no"):
            await hooked.sandboxes.run(pod_config(), "")
        assert plugin.methods() == ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"]
        assert hooked.leftovers() == nothing
        del plugin.answers["RunPodSandbox"]
        await hooked.sandboxes.run(pod_config(), "")


async def test_refusals_after_the_fact_change_nothing(hooked: World, path: Path) -> None:
    names = (
        "PostCreateContainer",
        "PostStartContainer",
        "StopContainer",
        "RemoveContainer",
        "StopPodSandbox",
        "RemovePodSandbox",
    )
    async with ScriptedPlugin(answers={name: refusal("too late") for name in names}).ready(path):
        pod = await hooked.sandboxes.run(pod_config(), "")
        container = await hooked.containers.create(pod.id, container_config())
        await hooked.containers.start(container.id)
        await hooked.sandboxes.remove(pod.id)
    assert hooked.parts.sandboxes.size() == hooked.parts.containers.size() == 0


async def test_a_pods_new_limits_may_be_refused(hooked: World, path: Path) -> None:
    pod = await hooked.sandboxes.run(pod_config(), "")
    nothing, limit = cri.LinuxContainerResources(), cri.LinuxContainerResources(cpu_shares=5)
    async with ScriptedPlugin(answers={"UpdatePodSandbox": refusal("no")}).ready(path) as plugin:
        with pytest.raises(CridError, match="no"):
            await hooked.sandboxes.update_resources(pod.id, nothing, limit)
        assert pod.status.resources is None
        del plugin.answers["UpdatePodSandbox"]
        await hooked.sandboxes.update_resources(pod.id, nothing, limit)
        assert plugin.last("UpdatePodSandbox").linux_resources.cpu.shares.value == 5
        assert plugin.last("PostUpdatePodSandbox").pod.linux.pod_resources.cpu.shares.value == 5
    assert pod.status.resources == limit
