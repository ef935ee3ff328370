"""Where monitors are put, and with which limits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.cgroup.properties import Property
from crid.cri import api_pb2 as cri
from crid.errors import UnavailableError
from crid.lifecycle.monitors import Monitors
from crid.model.container import Container, ContainerMetadata, ContainerStatus
from crid.model.process import ProcessIdentity
from crid.model.sandbox import PodSandbox, SandboxMetadata, SandboxStatus
from crid.oci.spec.workloads import CpuLimits, Workload
from crid.store.memory import MemoryStore
from tests.unit.lifecycle.world import FakeHierarchy

WORKLOAD = Workload("w", "managed", "limits", limits=CpuLimits(cpushares=20))


class Hierarchy(FakeHierarchy):
    """Remembers who was put where."""

    def __init__(self) -> None:
        super().__init__()
        self.placed: list[tuple[str, int]] = []

    def add_process(self, path: str, pid: int) -> None:
        if self.refuses:
            raise OSError(16, "busy", path)
        self.placed.append((path, pid))

    def path_of(self, pid: int) -> str | None:
        return "pods/pod1/crid-c/init" if pid == 7 else None


class Systemd:
    """Remembers the scopes that were asked for."""

    def __init__(self) -> None:
        self.scopes: list[tuple[str, str, int, Mapping[str, object]]] = []
        self.stopped: list[str] = []
        self.refuses = False

    async def start_scope(
        self, name: str, slice_: str, pid: int, description: str, properties: Mapping[str, Property] | None = None
    ) -> None:
        self.scopes.append((name, slice_, pid, properties or {}))

    async def stop(self, name: str) -> None:
        self.stopped.append(name)
        if self.refuses:
            raise UnavailableError("no answer")


def container(cgroup_path: str = "/pods/pod1/crid-c") -> Container:
    metadata = ContainerMetadata(
        id="c",
        name="c",
        sandbox_id="p",
        config=cri.ContainerConfig(),
        runtime_handler="crun",
        image_id="",
        image_ref="",
        created_at=1,
        bundle=Path("/b"),
        persist_directory=Path("/p"),
        log_path="",
        cgroup_path=cgroup_path,
    )
    return Container(metadata, ContainerStatus(process=ProcessIdentity(7, 1)))


def monitors(hierarchy: Hierarchy, systemd: Systemd | None = None, annotations: Mapping[str, str] | None = None) -> Monitors:
    sandboxes: MemoryStore[PodSandbox] = MemoryStore("pod")
    metadata = SandboxMetadata(
        "p", "p", cri.PodSandboxConfig(annotations=annotations), "", 1, Path("/d"), Path("/r"), "h", "/pods/pod1"
    )
    sandboxes.add(PodSandbox(metadata, SandboxStatus()))
    return Monitors(
        hierarchy,
        sandboxes,
        systemd,
        where="pod",
        exec_in_container=True,
        infra_cpus=frozenset({0, 1}),
        workloads=(WORKLOAD,),
    )


async def test_in_a_leaf_of_the_pods_cgroup() -> None:
    """Beside the container, limited before the process comes; removed after it."""
    hierarchy = Hierarchy()
    placement = monitors(hierarchy)
    await placement.place_monitor(container(), 5)
    path = "pods/pod1/crid-conmon-c"
    assert (hierarchy.created, hierarchy.placed) == ([path], [(path, 5)])
    assert hierarchy.limited == [(path, cri.LinuxContainerResources(cpuset_cpus="0-1"))]
    await placement.remove(container())
    assert hierarchy.removed == [path]
    assert placement.unit("c") == ""


async def test_the_workload_has_limits_for_monitors() -> None:
    hierarchy = Hierarchy()
    placement = monitors(hierarchy, None, {"managed": "", "limits/POD": '{"cpuset": "1"}'})
    await placement.place_monitor(container(), 5)
    assert hierarchy.limited[0][1] == cri.LinuxContainerResources(cpu_shares=20, cpuset_cpus="1")


async def test_with_the_daemon_nothing_happens() -> None:
    hierarchy, systemd = Hierarchy(), Systemd()
    for scopes in (None, systemd):
        placement = Monitors(
            hierarchy,
            MemoryStore("pod"),
            scopes,
            where="",
            exec_in_container=False,
            infra_cpus=frozenset(),
            workloads=(),
        )
        await placement.place_monitor(container(), 5)
        await placement.remove(container())
        assert placement.unit("c") == ""
    assert [hierarchy.created, hierarchy.placed, hierarchy.removed, systemd.scopes] == [[]] * 4


@pytest.mark.parametrize(("where", "slice_"), [("pod", "pod1.slice"), ("monitors.slice", "monitors.slice")])
async def test_in_a_scope(where: str, slice_: str) -> None:
    """In a slice of many it must not limit the others."""
    hierarchy, systemd = Hierarchy(), Systemd()
    placement = monitors(hierarchy, systemd)
    placement._where = where
    await placement.place_monitor(container("pod1.slice:crid:c"), 5)
    [(unit, found, pid, properties)] = systemd.scopes
    assert (unit, found, pid) == ("crid-conmon-c.scope", slice_, 5)
    expected: dict[str, Any] = {"After": ("as", ["crid.service"]), "KillSignal": ("i", 13), "DefaultDependencies": ("b", True)}
    if where == "pod":
        expected["AllowedCPUs"] = ("ay", b"\3")
    assert properties == expected
    for systemd.refuses in (False, True):  # it ends by itself, too: whoever removes the container has no use for the error
        await placement.remove(container("pod1.slice:crid:c"))
    assert (hierarchy.removed, systemd.stopped) == ([], ["crid-conmon-c.scope"] * 2)


async def test_what_cannot_be_done_is_said() -> None:
    hierarchy = Hierarchy()
    hierarchy.refuses = True
    placement = monitors(hierarchy)
    with pytest.raises(UnavailableError, match="its monitor cannot be put into a cgroup"):
        await placement.place_monitor(container(), 5)
    with pytest.raises(UnavailableError, match="monitor cannot be put into its cgroup"):
        placement.place_exec(container(), 5)


def test_a_commands_monitor_goes_where_the_container_is() -> None:
    hierarchy = Hierarchy()
    placement = monitors(hierarchy)
    placement.place_exec(container(), 5)
    assert hierarchy.placed == [("pods/pod1/crid-c/init", 5)]
    ended = container()
    ended.publish(replace(ended.status, process=ProcessIdentity(8, 1)))
    with pytest.raises(UnavailableError, match="has ended"):
        placement.place_exec(ended, 5)
