"""Where a pod and its containers are accounted, by either driver."""

from pathlib import Path

import pytest

from crid.cgroup.systemd import Systemd
from crid.cgroup.v2 import V2
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.lifecycle.cgroups import PodCgroups, PodDirectories
from crid.lifecycle.slices import PodSlices
from tests.unit.lifecycle.world import FakeHierarchy, World, pod_config

DIRECTORIES = PodDirectories(FakeHierarchy())
SLICES = PodSlices(FakeHierarchy(), Systemd())


@pytest.mark.parametrize(("cgroups", "parent"), [(DIRECTORIES, "/crid/x"), (SLICES, "crid-x.slice")])
def test_the_clients_parent_or_one_of_our_own(cgroups: PodCgroups, parent: str) -> None:
    assert cgroups.parent("", "x") == parent
    assert cgroups.parent("asked.slice", "x") == "asked.slice"


@pytest.mark.parametrize(("cgroups", "wrong"), [(DIRECTORIES, "a.slice"), (SLICES, "/kubepods/pod1")])
def test_a_parent_of_the_other_driver_is_refused(cgroups: PodCgroups, wrong: str) -> None:
    cgroups.check_parent("", 0)
    with pytest.raises(InvalidArgumentError, match=wrong):
        cgroups.check_parent(wrong, 0)


@pytest.mark.parametrize(("above", "own"), [("1048576", "max"), ("max", "1048576")])
def test_a_parent_with_too_little_memory_is_refused(tmp_path: Path, above: str, own: str) -> None:
    """Whether the limit is its own or that of a cgroup above it."""
    cgroups = PodDirectories(V2(tmp_path))
    (tmp_path / "kubepods/pod1").mkdir(parents=True)
    (tmp_path / "kubepods/memory.max").write_text(above)
    (tmp_path / "kubepods/pod1/memory.max").write_text(own)
    cgroups.check_parent("/kubepods/pod1", 1 << 20)
    cgroups.check_parent("/not/there", 1 << 21)
    with pytest.raises(FailedPreconditionError, match=r"/kubepods/pod1.*1048576.*2097152"):
        cgroups.check_parent("/kubepods/pod1", 1 << 21)


async def test_a_pods_accounting_is_its_parents(world: World) -> None:
    pod = await world.pod()
    cpu = world.parts.cgroups.sandbox_stats(pod.metadata).cpu
    assert cpu is not None
    assert world.parts.cgroups.container_path(pod.metadata, "c") == f"/crid/{pod.id}/crid-c"


async def test_the_pause_process_has_a_leaf_of_its_own(world: World) -> None:
    """Below the pod's cgroup, which on v2 takes no processes itself; below a slice only systemd makes cgroups."""
    pod = await world.pod()
    path = f"crid/{pod.id}/crid-pause"
    assert world.parts.cgroups.pause_procs(pod.metadata) == [f"/cgroup/{path}/cgroup.procs"]
    assert path in world.hierarchy.created
    await world.parts.cgroups.remove_pause(pod.metadata)
    assert path in world.hierarchy.removed
    assert SLICES.pause_procs(pod.metadata) == []


async def test_a_pods_own_cgroup_is_limited_from_the_start(world: World) -> None:
    config = pod_config()
    config.linux.resources.memory_limit_in_bytes = 64
    config.linux.overhead.memory_limit_in_bytes = 1
    pod = await world.sandboxes.run(config, "")
    await world.parts.cgroups.prepare(pod.metadata)
    assert world.hierarchy.limited[-1][1].memory_limit_in_bytes == 65
    config.linux.resources.cpu_quota = 1
    with pytest.raises(InvalidArgumentError, match=r"resources: resources\.cpu_quota"):
        await world.parts.cgroups.prepare(pod.metadata)


@pytest.mark.parametrize("cgroups", [DIRECTORIES, SLICES])
async def test_a_clients_cgroup_is_the_clients_to_limit_and_remove(world: World, cgroups: PodCgroups) -> None:
    config = pod_config()
    config.linux.cgroup_parent = "/theirs"
    config.linux.resources.memory_limit_in_bytes = 64
    pod = await world.sandboxes.run(config, "")
    assert not await cgroups.limit(pod.metadata, config.linux.resources)
    await cgroups.remove_parent(pod.metadata)
