"""Every step of RunPodSandbox and of CreateContainer fails in turn; each time nothing is left, and the next try succeeds.

The daemon's parts run inside this process, on the real kernel with the real runtime, put together as `crid.daemon` does.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crid import assembly, config
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.exits import Exits
from crid.lifecycle.parts import Parts
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.tasks import Supervisor
from scripts import small_image
from tests.harness import footprint
from tests.harness.configs import container_config, pod_config
from tests.harness.daemon import CRID, Daemon
from tests.harness.faults import Faults
from tests.harness.node import Node

IMAGE = "localhost/test/busybox:latest"


@dataclass(frozen=True, slots=True)
class Inside:
    """The use cases of a daemon, called directly, and the instance whose directories they use."""

    instance: Daemon
    parts: Parts
    sandboxes: SandboxLifecycle
    containers: ContainerLifecycle

    def footprint(self) -> footprint.Footprint:
        """Count what the instance has, this process being the daemon."""
        directories = (self.instance.root, self.instance.run_root, self.instance.pod_logs)
        return footprint.take(daemon=os.getpid(), directories=directories, cgroup=self.instance.cgroup)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Daemon]:
    """Directories and a configuration with an imported image; the daemon itself is not started."""
    daemon = Daemon()
    with daemon.prepared():
        small_image.write_layout(tmp_path / "layout")
        argv = [str(CRID), "--config", str(daemon.config), "image", "import", str(tmp_path / "layout"), IMAGE]
        subprocess.run(argv, check=True, capture_output=True)
        yield daemon


@pytest.fixture
async def inside(instance: Daemon) -> AsyncIterator[Inside]:
    """The use cases over all real providers."""
    supervisor = Supervisor("test")
    providers = await assembly.providers(config.load(instance.config), supervisor)
    exits = Exits(providers.parts.containers, providers.parts.state)
    following = supervisor.start(exits.follow(providers.exits), "exits")
    containers = ContainerLifecycle(providers.parts, exits)
    yield Inside(instance, providers.parts, SandboxLifecycle(providers.parts, containers), containers)
    following.cancel()
    await asyncio.wait([following])
    await supervisor.close(5)
    await providers.close()


async def test_every_step_of_run_pod_sandbox(inside: Inside) -> None:
    """Whatever fails, the pod's name is free, nothing of it is listed, and nothing of it exists."""
    node = Node(inside.instance, IMAGE)
    pod = node.pod_config()
    await _warm_up(inside)
    before = inside.footprint()
    left: dict[str, object] = {}

    async def after(step: str, failed: bool) -> None:
        for sandbox in inside.parts.sandboxes.list():
            if failed:
                left[step] = f"listed: {sandbox}"
            await inside.sandboxes.remove(sandbox.id)
        remains: dict[str, object] = {**inside.footprint().new_since(before)}
        if len(inside.parts.sandbox_names):
            remains["names"] = len(inside.parts.sandbox_names)
        if remains:
            left[step] = remains

    steps = await Faults().each(lambda: inside.sandboxes.run(pod, ""), after)
    assert len(steps) > 10, steps
    assert left == {}


async def test_every_step_of_create_container(inside: Inside) -> None:
    """Whatever fails, the pod is unharmed and nothing of the container is left: no process, layer, mount, cgroup or log."""
    await _warm_up(inside)
    node = Node(inside.instance, IMAGE)
    sandbox = await inside.sandboxes.run(node.pod_config(), "")
    wanted = container_config(IMAGE, ["sleep", "1000000"])
    before = inside.footprint()
    left: dict[str, object] = {}

    async def after(step: str, failed: bool) -> None:
        for container in inside.parts.containers.list():
            if failed:
                left[step] = f"listed: {container}"
            await inside.containers.remove(container.id)
        remains: dict[str, object] = {**inside.footprint().new_since(before)}
        if len(inside.parts.container_names):
            remains["names"] = len(inside.parts.container_names)
        if remains:
            left[step] = remains

    steps = await Faults().each(lambda: inside.containers.create(sandbox.id, wanted), after)
    assert len(steps) > 10, steps
    assert left == {}
    await inside.sandboxes.remove(sandbox.id)


async def _warm_up(inside: Inside) -> None:
    """Run and remove a pod with a container, so that what is made once (bridge, unpacked layers) is there."""
    node = Node(inside.instance, IMAGE)
    pod = pod_config(log_directory=inside.instance.pod_logs / "warm", cgroup_parent=inside.instance.cgroup)
    sandbox = await inside.sandboxes.run(pod, "")
    container = await inside.containers.create(sandbox.id, node.container_config("sleep", "1000000"))
    await inside.containers.start(container.id)
    await inside.sandboxes.remove(sandbox.id)
