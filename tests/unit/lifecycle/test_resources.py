"""Changing limits: all or none, and what is in force is what status tells."""

import asyncio
from dataclasses import replace

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, UnavailableError
from crid.lifecycle import resources
from crid.model.resources import HostResources
from crid.model.stats import CgroupStats, MemoryStats
from crid.oci.spec.policy import Policy
from tests.unit.lifecycle.world import World, container_config, pod_config

MIB = 1 << 20


async def test_a_failed_update_is_taken_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime may have set some limits before it failed: it is told the old ones, and the kernel's defaults for new ones."""
    pod = await world.pod()
    config = container_config()
    config.linux.resources.memory_limit_in_bytes = 64 * MIB
    container = await world.containers.create(pod.id, config)
    told: list[object] = []

    async def update(_: object, limits: object) -> None:
        told.append(limits)
        if len(told) == 1:
            raise CridError("half done")

    monkeypatch.setattr(world.runtime, "update", update)
    with pytest.raises(CridError, match="half done"):
        await resources.update_container(
            world.parts, container, cri.LinuxContainerResources(memory_limit_in_bytes=128 * MIB, cpu_quota=5000)
        )
    assert told[1] == {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}
    assert [limits for _, limits in world.hierarchy.limited] == [cri.LinuxContainerResources(cpu_quota=-1)]
    assert container.status.resources is None


async def test_of_a_container_whose_handler_is_no_longer_configured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it can be done the default handler's runtime says."""
    pod = await world.sandboxes.run(pod_config(), "other")
    container = await world.containers.create(pod.id, container_config())
    for known in (world.parts.runtime._handlers, world.parts.hosts):
        monkeypatch.delitem(known, "other")
    await world.containers.update_resources(container.id, cri.LinuxContainerResources(cpu_shares=100))
    assert container.status.resources == cri.LinuxContainerResources(cpu_shares=100)


async def test_what_nobody_waits_for_any_more_is_not_begun(world: World) -> None:
    """The runtime hangs, and the client asks again and again: what was begun goes on, the retries do not heap up."""
    created = await world.containers.create((await world.pod()).id, container_config())
    gate = world.runtime.verbs.close_gate("update")
    changes = [
        asyncio.create_task(world.containers.update_resources(created.id, cri.LinuxContainerResources(cpu_shares=shares)))
        for shares in range(100, 105)
    ]
    await world.runtime.verbs.reached("update")
    for change in changes:
        change.cancel()
    await asyncio.wait(changes)
    limit = cri.LinuxContainerResources(memory_limit_in_bytes=1 << 20)
    last = asyncio.create_task(world.containers.update_resources(created.id, limit))
    await asyncio.sleep(0)
    assert world.runtime.verbs.calls.count("update") == 1
    gate.set()
    await last
    assert world.runtime.verbs.calls.count("update") == 2
    shown = created.status.resources
    assert shown is not None
    assert (shown.cpu_shares, shown.memory_limit_in_bytes) == (100, 1 << 20)


async def test_huge_pages_are_limited_whatever_the_runtime_makes_of_them(world: World) -> None:
    """runc's update passes over them."""
    container = await world.containers.create((await world.pod()).id, container_config())
    pages = HostResources(hugepage_sizes=frozenset({"2MB"}))
    hosts = {name: replace(host, resources=pages) for name, host in world.parts.hosts.items()}
    new = cri.LinuxContainerResources(hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=4 * MIB)])
    await resources.update_container(replace(world.parts, hosts=hosts), container, new)
    assert world.hierarchy.limited[-1][1] == new
    world.hierarchy.refuses = True
    with pytest.raises(UnavailableError, match="huge pages"):
        await resources.update_container(replace(world.parts, hosts=hosts), container, new)


async def test_less_memory_than_is_in_use_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = await world.pod()
    container = await world.running(pod)

    def stats(_: object) -> CgroupStats:
        return CgroupStats(1, memory=MemoryStats(usage=90 * MIB, working_set=80 * MIB))

    monkeypatch.setattr(world.runtime, "stats", stats)
    with pytest.raises(FailedPreconditionError, match=f"memory_limit_in_bytes: {64 * MIB}"):
        await resources.update_container(world.parts, container, cri.LinuxContainerResources(memory_limit_in_bytes=64 * MIB))
    await resources.update_container(world.parts, container, cri.LinuxContainerResources(memory_limit_in_bytes=96 * MIB))
    assert container.status.resources is not None


async def test_the_runtimes_least_memory_holds_for_updates_too(world: World) -> None:
    container = await world.containers.create((await world.pod()).id, container_config())
    strict = {name: replace(host, policy=Policy(min_memory=12 * MIB)) for name, host in world.parts.hosts.items()}
    with pytest.raises(InvalidArgumentError, match="memory_limit_in_bytes"):
        await resources.update_container(
            replace(world.parts, hosts=strict), container, cri.LinuxContainerResources(memory_limit_in_bytes=MIB)
        )


async def test_a_pods_limits_are_set_and_kept(world: World) -> None:
    """What the containers may have and what the pod costs add up; what an update does not say stays."""
    pod = await world.pod()
    await resources.update_sandbox(
        world.parts,
        pod,
        cri.LinuxContainerResources(memory_limit_in_bytes=MIB),
        cri.LinuxContainerResources(memory_limit_in_bytes=64 * MIB, cpu_quota=10000, cpu_period=100000),
    )
    path, limits = world.hierarchy.limited[-1]
    assert (path, limits.memory_limit_in_bytes, limits.cpu_quota) == (f"crid/{pod.id}", 65 * MIB, 10000)
    await resources.update_sandbox(
        world.parts, pod, cri.LinuxContainerResources(), cri.LinuxContainerResources(memory_limit_in_bytes=32 * MIB)
    )
    assert world.hierarchy.limited[-1][1].memory_limit_in_bytes == 33 * MIB
    (found,) = world.parts.state.load_sandboxes()
    assert found.status == pod.status
    assert found.status.resources is not None
    assert (found.status.resources.memory_limit_in_bytes, found.status.resources.cpu_quota) == (32 * MIB, 10000)


async def test_a_cgroup_of_the_kubelets_is_left_to_it(world: World) -> None:
    config = pod_config()
    config.linux.cgroup_parent = "/kubepods/pod1"
    pod = await world.sandboxes.run(config, "")
    await resources.update_sandbox(
        world.parts, pod, cri.LinuxContainerResources(), cri.LinuxContainerResources(memory_limit_in_bytes=MIB)
    )
    assert world.hierarchy.limited == []
    assert pod.status.resources is not None


async def test_a_pods_update_that_fails_changes_nothing(world: World) -> None:
    pod = await world.pod()
    limit = cri.LinuxContainerResources(memory_limit_in_bytes=MIB)
    with pytest.raises(InvalidArgumentError, match=r"overhead: resources\.cpu_shares"):
        await resources.update_sandbox(world.parts, pod, cri.LinuxContainerResources(cpu_shares=-1), limit)
    world.hierarchy.refuses = True
    with pytest.raises(UnavailableError, match="limited"):
        await resources.update_sandbox(world.parts, pod, cri.LinuxContainerResources(), limit)
    assert pod.status.resources is None
    world.hierarchy.refuses = False
    await world.sandboxes.stop(pod.id)
    with pytest.raises(FailedPreconditionError, match="stopped"):
        await resources.update_sandbox(world.parts, pod, cri.LinuxContainerResources(), limit)
