"""Where a pod and its containers are accounted, by either driver."""

import errno
import os
from pathlib import Path

import pytest

from crid.cgroup.systemd import Systemd
from crid.cgroup.v2 import V2
from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, UnavailableError
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
    await world.parts.cgroups.prepare(pod.metadata, {})
    assert world.hierarchy.limited[-1][1].memory_limit_in_bytes == 65
    config.linux.resources.cpu_quota = 1
    with pytest.raises(InvalidArgumentError, match=r"resources: resources\.cpu_quota"):
        await world.parts.cgroups.prepare(pod.metadata, {})


@pytest.mark.parametrize("parent", ["", "/theirs"])
async def test_files_that_a_pod_asks_for_are_set_whoevers_its_cgroup_is(world: World, parent: str) -> None:
    config = pod_config()
    config.linux.cgroup_parent = parent
    pod = await world.sandboxes.run(config, "")
    await world.parts.cgroups.prepare(pod.metadata, {"memory.high": "64"})
    assert world.hierarchy.limited == [
        (pod.metadata.cgroup_parent.strip("/"), cri.LinuxContainerResources(unified={"memory.high": "64"}))
    ]


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EINVAL, InvalidArgumentError), (errno.ENOENT, InvalidArgumentError), (errno.EIO, UnavailableError)],
)
async def test_a_value_that_the_kernel_does_not_take_leaves_no_cgroup(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CridError]
) -> None:
    config = pod_config()
    config.linux.cgroup_parent = "/theirs"
    pod = await world.sandboxes.run(config, "")

    def refuse(path: str, _: cri.LinuxContainerResources) -> None:
        raise OSError(number, os.strerror(number), f"{path}/memory.high")

    monkeypatch.setattr(world.hierarchy, "limit", refuse)
    with pytest.raises(kind, match=r"theirs/memory\.high"):
        await world.parts.cgroups.prepare(pod.metadata, {"memory.high": "x"})
    assert "theirs" in world.hierarchy.removed


@pytest.mark.parametrize("cgroups", [DIRECTORIES, SLICES])
async def test_a_clients_cgroup_is_the_clients_to_limit_and_remove(world: World, cgroups: PodCgroups) -> None:
    config = pod_config()
    config.linux.cgroup_parent = "/theirs"
    config.linux.resources.memory_limit_in_bytes = 64
    pod = await world.sandboxes.run(config, "")
    assert not await cgroups.limit(pod.metadata, config.linux.resources)
    await cgroups.remove_parent(pod.metadata)
