"""The use cases over fakes: a kernel, a network, a runtime, images and cgroups that live in memory, and real records."""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from crid.cgroup.hierarchy import Hierarchy
from crid.cri import api_pb2 as cri
from crid.errors import NotFoundError
from crid.events.broadcast import Broadcast
from crid.image.service import ImageService
from crid.lifecycle.cgroups import PodDirectories, own_parent
from crid.lifecycle.check.gather import Places
from crid.lifecycle.check.processes import Programs
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.event_hooks import EventHooks, PodEvent
from crid.lifecycle.exec import ExecLifecycle
from crid.lifecycle.exits import Exits
from crid.lifecycle.id_ranges import IdRangeAllocator
from crid.lifecycle.listeners import Listeners
from crid.lifecycle.monitors import Monitors
from crid.lifecycle.parts import Parts
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.lifecycle.tuning import Tuning
from crid.linux.fake import FakeKernel
from crid.model.container import Container
from crid.model.idmap import IdMap
from crid.model.image import Image, ImageProcess
from crid.model.mount import Mount
from crid.model.process import ProcessIdentity
from crid.model.resources import HostResources
from crid.model.sandbox import PodSandbox
from crid.model.stats import CgroupStats, CpuStats, DeviceUsage, HugepageUsage
from crid.net.fake import FakeNetwork
from crid.oci.fake import FakeRuntime
from crid.oci.runtime import Created, ExecResult, Runtime
from crid.oci.spec.inputs import Host
from crid.store.layers import Snapshot
from crid.store.memory import MemoryStore
from crid.store.names import NameRegistry
from crid.store.state import StateStore
from crid.tasks import Supervisor
from crid.tuning.files import HostFiles
from crid.tuning.irqbalance import Irqbalance
from crid.tuning.ledger import Ledger
from tests.harness.tools import PATIENCE

IMAGE = "localhost/busybox:latest"


class Verbs:
    """A part's verbs under a test's control: `failures` raises for a verb, `gates` makes it wait, `calls` notes it."""

    def __init__(self) -> None:
        self.failures: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.entered: dict[str, asyncio.Event] = {}
        self.calls: list[str] = []

    def close_gate(self, verb: str) -> asyncio.Event:
        """Make `verb` wait until the returned event is set; see `reached`."""
        self.entered[verb] = asyncio.Event()
        return self.gates.setdefault(verb, asyncio.Event())

    async def reached(self, verb: str) -> None:
        """Wait until somebody waits at the closed gate of `verb`."""
        async with asyncio.timeout(PATIENCE):
            await self.entered[verb].wait()

    async def pass_through(self, verb: str) -> None:
        self.calls.append(verb)
        if (gate := self.gates.get(verb)) is not None:
            self.entered[verb].set()
            await gate.wait()
        if (failure := self.failures.get(verb)) is not None:
            raise failure


class ScriptedRuntime(FakeRuntime):
    """FakeRuntime, whose verbs a test can hold up and make fail before they do anything."""

    def __init__(self, tasks: Supervisor) -> None:
        super().__init__(tasks)
        self.verbs = Verbs()

    async def create(self, container: Container) -> Created:
        await self.verbs.pass_through("create")
        return await super().create(container)

    async def start(self, container: Container) -> None:
        await self.verbs.pass_through("start")
        await super().start(container)

    async def stop(self, container: Container, signal: int, timeout: float) -> None:
        await self.verbs.pass_through("stop")
        await super().stop(container, signal, timeout)

    async def delete(self, container: Container) -> None:
        await self.verbs.pass_through("delete")
        await super().delete(container)

    async def update(self, container: Container, resources: Mapping[str, Any]) -> None:
        await self.verbs.pass_through("update")
        await super().update(container, resources)

    async def exec_sync(self, container: Container, command: Sequence[str], timeout: float) -> ExecResult:
        await self.verbs.pass_through("exec_sync")
        return await super().exec_sync(container, command, timeout)

    def applied(self, container: Container) -> Mapping[str, Any]:
        """What updates have set."""
        return self._kept(container).resources

    def known(self) -> int:
        """How many containers the runtime has."""
        return len(self._containers)


class FakeImages:
    """The few methods of ImageService that lifecycle and server use, over one image."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.images = {IMAGE: image()}
        self.snapshots: set[str] = set()
        self.volumes: dict[str, list[str]] = {}

    def resolve(self, reference: str) -> Image:
        if (found := self.images.get(reference)) is None:
            raise NotFoundError(f"image {reference}: not found")
        return found

    runnable = mountable = resolve

    def check_policy(self, image_: Image, reference: str = "", namespace: str = "") -> None:
        pass

    @property
    def layer_directories(self) -> list[Path]:
        paths = [self._root / "layers", self._root / "more-layers"]
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
        return paths

    def view(self, image_: Image, target: str, *, seen_at: Mapping[Path, Path] | None = None) -> Mount:
        own, _ = self.layer_directories
        return Mount(target, str((seen_at or {}).get(own, own)), "bind", ("bind", "ro"))

    def prepare_rootfs(
        self,
        identifier: str,
        image_: Image,
        *,
        idmap: IdMap | None = None,
        seen_at: Mapping[Path, Path] | None = None,
        volumes: Iterable[Image] = (),
    ) -> Snapshot:
        upper, work = self._root / identifier / "upper", self._root / identifier / "work"
        for directory in (upper, work):
            directory.mkdir(parents=True)
        self.snapshots.add(identifier)
        self.volumes[identifier] = [volume.id for volume in volumes]
        return Snapshot(identifier, image_.chain_ids, upper, work, Mount("", "overlay", "overlay", ("lowerdir=/x",)))

    def upper(self, identifier: str) -> Path:
        return self._root / identifier / "upper"

    async def release_rootfs(self, identifier: str) -> None:
        self.snapshots.discard(identifier)


class FakeHierarchy(Hierarchy):
    """Cgroups that are a set of paths."""

    unified = True
    _memory_limit_file = "memory.max"

    def __init__(self) -> None:
        self.removed: list[str] = []
        self.refuses = False
        self.created: list[str] = []
        self.limited: list[tuple[str, cri.LinuxContainerResources]] = []
        self.device_rules: str | None = None

    def directories(self, path: str) -> list[str]:
        return [f"/cgroup/{path}"]

    def directory(self, path: str, controller: str) -> str:
        return f"/cgroup/{path}"

    def create(self, path: str) -> None:
        self.created.append(path)

    def limit(self, path: str, resources: cri.LinuxContainerResources) -> None:
        if self.refuses:
            raise OSError(16, os.strerror(16), path)
        self.limited.append((path, resources))

    def stats(self, path: str) -> CgroupStats:
        return CgroupStats(1, cpu=CpuStats(1))

    def device_usage(self, path: str) -> list[DeviceUsage]:
        return [DeviceUsage(8, 0, read_bytes=4096, reads=1)]

    def hugepage_usage(self, path: str) -> list[HugepageUsage]:
        return []

    def oom_kills(self, path: str) -> int | None:
        return None

    def path_of(self, pid: int) -> str | None:
        return None

    def device_rules_of(self, pid: int) -> str | None:
        return self.device_rules

    def host_resources(self) -> HostResources:
        return HostResources()

    def process_directory(self, path: str) -> str:
        return f"/nowhere/{path}"

    async def remove_async(self, path: str) -> None:
        if self.refuses:
            raise OSError(16, os.strerror(16), path)
        self.removed.append(path)


@dataclass(slots=True)
class World:
    """A node."""

    parts: Parts
    exits: Exits
    containers: ContainerLifecycle
    sandboxes: SandboxLifecycle
    execs: ExecLifecycle
    events: Broadcast[PodEvent]
    kernel: FakeKernel
    network: FakeNetwork
    runtime: ScriptedRuntime
    images: FakeImages
    hierarchy: FakeHierarchy
    pauses: list[ProcessIdentity] = field(default_factory=list)
    following: "asyncio.Task[None] | None" = None

    @property
    def places(self) -> Places:
        """Where traces are looked for; no process of this machine is one."""
        return Places(
            root=self.parts.state.sandbox_directory("x").parents[1],
            run_root=self.parts.run_root,
            runtime_roots={},
            hierarchy=self.hierarchy,
            cgroup_parent=own_parent("cgroupfs", "crid"),
            programs=Programs(frozenset(), frozenset(), frozenset()),
        )

    def follow(self) -> None:
        """Record the ends of containers from now on, as the daemon does."""
        self.following = self.parts.supervisor.start(self.exits.follow(self.runtime.exits(), self.containers.ended), "exits")

    async def unfollow(self) -> None:
        """The daemon is gone."""
        if self.following is not None:
            self.following.cancel()
            await asyncio.wait([self.following])

    async def restarted(self, tmp_path: Path) -> "World":
        """The world after the daemon's death: the same directories, kernel and runtime, nothing else remembered."""
        await self.unfollow()
        new = build(tmp_path, self.parts.supervisor)
        parts = replace(
            new.parts, kernel=self.kernel, network=self.network, runtime=self.parts.runtime, images=self.parts.images
        )
        exits = Exits(parts.containers, parts.state, lambda container: None)
        containers = ContainerLifecycle(parts, exits)
        again = replace(
            self,
            parts=parts,
            exits=exits,
            containers=containers,
            sandboxes=SandboxLifecycle(parts, containers),
            execs=ExecLifecycle(parts),
            events=new.events,
        )
        again.follow()
        self.following = again.following
        return again

    async def pod(self, name: str = "web", **more: Any) -> PodSandbox:
        """Run a pod."""
        return await self.sandboxes.run(pod_config(name, **more), "")

    async def running(self, sandbox: PodSandbox, *command: str, name: str = "app") -> Container:
        """Create and start a container."""
        container = await self.containers.create(sandbox.id, container_config(*command, name=name))
        await self.containers.start(container.id)
        return container

    def leftovers(self) -> dict[str, object]:
        """Whatever there still is of any pod or container, by the part that has it."""
        state = self.parts.state.sandbox_directory("x").parents[1]
        directories = [self.parts.run_root / "pods", self.parts.run_root / "containers", state / "pods", state / "containers"]
        found = {
            "directories": [str(path) for directory in directories if directory.is_dir() for path in directory.iterdir()],
            "mounts": [mount.target for mount in self.kernel.mounts],
            "network": list(self.network.attached),
            "runtime": self.runtime.known(),
            "snapshots": list(self.images.snapshots),
            "pod names": len(self.parts.sandbox_names),
            "container names": len(self.parts.container_names),
            "pods": self.parts.sandboxes.list(),
            "containers": self.parts.containers.list(),
            "pauses": self.pauses,
        }
        return {part: what for part, what in found.items() if what}


def image() -> Image:
    digest = "sha256:" + "c" * 64
    return Image(
        digest, (IMAGE,), (f"localhost/busybox@{digest}",), 100, ImageProcess(cmd=("sleep", "3600")), (digest,), digest
    )


def pod_config(name: str = "web", pid: cri.NamespaceMode.ValueType = cri.CONTAINER, **more: Any) -> cri.PodSandboxConfig:
    """A pod as the kubelet sends it: its PID namespace is not shared unless `pid` is POD, which is the message's default."""
    options = cri.NamespaceOption(pid=pid)
    linux = cri.LinuxPodSandboxConfig(security_context=cri.LinuxSandboxSecurityContext(namespace_options=options))
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, namespace="default", uid=f"uid-{name}"),
        **{"hostname": name, "linux": linux, **more},
    )


def container_config(
    *command: str, name: str = "app", pid: cri.NamespaceMode.ValueType = cri.CONTAINER, **more: Any
) -> cri.ContainerConfig:
    options = cri.NamespaceOption(pid=pid)
    linux = cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(namespace_options=options))
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name),
        image=cri.ImageSpec(image=IMAGE),
        command=command or ("obedient",),
        linux=linux,
        **more,
    )


def build(tmp_path: Path, supervisor: Supervisor) -> World:
    """Put the use cases together as `crid.assembly` and `crid.daemon` do."""
    run_root = tmp_path / "run"
    kernel, network, hierarchy = FakeKernel(), FakeNetwork(), FakeHierarchy()
    sandboxes: MemoryStore[PodSandbox] = MemoryStore("pod sandbox")
    known: MemoryStore[Container] = MemoryStore("container")
    events: Broadcast[PodEvent] = Broadcast()
    runtime, images = ScriptedRuntime(supervisor), FakeImages(tmp_path / "layers")
    hosts = {
        name: Host(capabilities=frozenset({"CAP_KILL"}), resources=HostResources(), user_namespaces=name == "fake")
        for name in ("fake", "other")
    }
    files = HostFiles(tmp_path / "host")
    run_root.mkdir(parents=True, exist_ok=True)
    parts = Parts(
        supervisor=supervisor,
        run_root=run_root,
        kernel=kernel,
        runtime=Runtime({"fake": runtime, "other": runtime}, "fake"),
        images=cast(ImageService, images),
        network=network,
        cgroups=PodDirectories(hierarchy),
        state=StateStore(tmp_path / "lib", run_root),
        sandboxes=sandboxes,
        containers=known,
        sandbox_names=NameRegistry("pod"),
        container_names=NameRegistry("container"),
        hosts=hosts,
        hostname="node",
        pause_program=Path("/nowhere/crid-pause"),
        userns_program=Path("/nowhere/crid-userns"),
        pids_limit=-1,
        id_ranges=IdRangeAllocator(sandboxes, "containers", None, files=(tmp_path / "subuid", tmp_path / "subgid")),
        tuning=Tuning(
            files, Ledger(files, run_root / "tuning.json"), Irqbalance(files), hierarchy, sandboxes, hosts, supervisor
        ),
        monitors={
            name: Monitors(hierarchy, sandboxes, None, where="", exec_in_container=False, infra_cpus=frozenset(), workloads=())
            for name in hosts
        },
        hooks=Listeners(supervisor, EventHooks(sandboxes, known, events)),
    )
    exits = Exits(parts.containers, parts.state, lambda container: None)
    containers = ContainerLifecycle(parts, exits)
    return World(
        parts,
        exits,
        containers,
        SandboxLifecycle(parts, containers),
        ExecLifecycle(parts),
        events,
        kernel,
        network,
        runtime,
        images,
        hierarchy,
    )
