"""Every step of RunPodSandbox and of CreateContainer fails in turn; each time nothing is left, and the next try succeeds.

The daemon's parts run inside this process, on the real kernel with the real runtime, put together as `crid.daemon` does.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crid import config
from crid.assembly.providers import build_providers
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.exits import Exits
from crid.lifecycle.parts import Parts
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.oci.exits import read_exit
from crid.tasks import Supervisor
from scripts import small_image
from tests.harness import footprint
from tests.harness.daemon import CRID, Daemon
from tests.harness.faults import Faults
from tests.harness.footprint import Footprint
from tests.harness.node import Node
from tests.harness.tools import PATIENCE

IMAGE = "localhost/test/busybox:latest"

CANNOT_FAIL = frozenset(
    {
        "_since",  # subtracts two numbers, for the log line after everything is done
        "_checked",  # looks at what a system call returned: it fails only where the call has, so an open one is no leak
        "oci/descriptors.py:Descriptors.__init__",  # takes over descriptors that its caller has just opened, as does add
        "oci/descriptors.py:Descriptors.add",
        "oci/descriptors.py:Descriptors.close",  # closes one of ours; close(2) gives it up even where it reports an error
        "oci/descriptors.py:Descriptors.close_all",
        "container_created",  # tells of what is done, and raises nothing, as crid.lifecycle.hooks says
        "_quietly",
    }
)


@dataclass(frozen=True, slots=True)
class Inside:
    """The use cases of a daemon, called directly, and the instance whose directories they use."""

    instance: Daemon
    parts: Parts
    sandboxes: SandboxLifecycle
    containers: ContainerLifecycle

    def footprint(self) -> Footprint:
        """Count what the instance has, this process being the daemon."""
        directories = (self.instance.root, self.instance.run_root, self.instance.pod_logs)
        return footprint.take(daemon=os.getpid(), directories=directories, cgroup=self.instance.cgroup)

    async def left_since(self, before: Footprint) -> dict[str, list[str]]:
        """Do what `Daemon.left_since` does: a killed process, say, is there until its parent, or init, has reaped it."""
        deadline = time.monotonic() + PATIENCE
        while (left := self.footprint().new_since(before)) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return left


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
    providers = await build_providers(config.load(instance.config), supervisor)
    exits = Exits(providers.parts.containers, providers.parts.state, read_exit)
    following = supervisor.start(exits.follow(aiter(providers.exits), lambda container: None), "exits")
    containers = ContainerLifecycle(providers.parts, exits)
    yield Inside(instance, providers.parts, SandboxLifecycle(providers.parts, containers), containers)
    following.cancel()
    await asyncio.wait([following])
    await supervisor.close(5)
    await providers.close()


async def test_every_step_of_run_pod_sandbox(inside: Inside) -> None:
    """Whatever fails, the pod's name is free, nothing of it is listed, and nothing of it exists."""
    await _warm_up(inside)
    config = Node(inside.instance, IMAGE).pod_config()
    before = inside.footprint()
    left: dict[str, object] = {}

    async def after(step: str, failed: bool) -> None:
        nonlocal before
        for sandbox in inside.parts.sandboxes.list():
            if failed:
                left[step] = f"listed: {sandbox}"
            await inside.sandboxes.remove(sandbox.id)
        remains: dict[str, object] = {**await inside.left_since(before)}
        if len(inside.parts.sandbox_names):
            remains["names"] = len(inside.parts.sandbox_names)
        if remains:
            left[step] = remains
            before = inside.footprint()  # the next steps are not to blame

    steps = await Faults(CANNOT_FAIL).each(lambda: inside.sandboxes.run(config, ""), after)
    assert len(steps) > 10, steps
    assert left == {}, json.dumps(left, indent=1)


async def test_every_step_of_create_container(inside: Inside) -> None:
    """Whatever fails, the pod is unharmed and nothing of the container is left: no process, layer, mount, cgroup or log."""
    await _warm_up(inside)
    node = Node(inside.instance, IMAGE)
    sandbox = await inside.sandboxes.run(node.pod_config(), "")
    config = node.container_config("sleep", "1000000", name="main")
    await inside.containers.remove((await inside.containers.create(sandbox.id, config)).id)
    log = inside.instance.pod_logs / sandbox.metadata.config.metadata.name / config.log_path
    log.unlink()
    before = inside.footprint()
    left: dict[str, object] = {}

    async def after(step: str, failed: bool) -> None:
        nonlocal before
        for container in inside.parts.containers.list():
            if failed:
                left[step] = f"listed: {container}"
            await inside.containers.remove(container.id)
        if not failed:
            log.unlink()  # a container's log stays when it is removed, for the client to collect
        remains: dict[str, object] = {**await inside.left_since(before)}
        if len(inside.parts.container_names):
            remains["names"] = len(inside.parts.container_names)
        if remains:
            left[step] = remains
            before = inside.footprint()  # the next steps are not to blame

    steps = await Faults(CANNOT_FAIL).each(lambda: inside.containers.create(sandbox.id, config), after)
    assert len(steps) > 10, steps
    assert left == {}, json.dumps(left, indent=1)
    await inside.sandboxes.remove(sandbox.id)


async def _warm_up(inside: Inside) -> None:
    """Run and remove a pod with a container, so that what is made once (bridge, unpacked layers) is there."""
    node = Node(inside.instance, IMAGE)
    sandbox = await inside.sandboxes.run(node.pod_config(), "")
    container = await inside.containers.create(sandbox.id, node.container_config("sleep", "1000000"))
    await inside.containers.start(container.id)
    await inside.sandboxes.remove(sandbox.id)
