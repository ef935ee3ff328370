"""How a container is put together, and that nothing of it is left if that fails."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import (
    CridError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from crid.lifecycle import host_paths
from crid.lifecycle.create import bundle_path, discard
from crid.model.container import ContainerState
from crid.model.sandbox import PodSandbox
from tests.harness.faults import Faults
from tests.harness.tools import until
from tests.unit.lifecycle.world import IMAGE, World, container_config, pod_config


@pytest.fixture
async def pod(world: World, tmp_path: Path) -> PodSandbox:
    return await world.pod(log_directory=str(tmp_path / "logs"))


async def test_what_a_container_has(world: World, pod: PodSandbox, tmp_path: Path) -> None:
    config = container_config("sleep", "60", log_path="app/0.log", stop_signal=cri.SIGNAL_SIGQUIT)
    container = await world.containers.create(pod.id, config)
    metadata = container.metadata
    assert metadata.name == "k8s_app_web_default_uid-web_0"
    assert metadata.config == config
    assert metadata.sandbox_id == pod.id
    assert metadata.runtime_handler == "fake"
    assert metadata.image_id == "sha256:" + "c" * 64
    assert metadata.image_ref == "localhost/busybox@sha256:" + "c" * 64
    assert metadata.cgroup_path == f"/crid/{pod.id}/crid-{container.id}"
    assert metadata.log_path == str(tmp_path / "logs/app/0.log")
    assert metadata.stop_signal == "SIGQUIT"
    assert world.kernel.is_mount_point(str(metadata.bundle / "rootfs"))
    spec = json.loads((metadata.bundle / "config.json").read_bytes())
    assert spec["process"]["args"] == ["sleep", "60"]
    assert container.status.state is ContainerState.CREATED
    (recorded,) = world.parts.state.load_containers()
    assert (recorded.metadata, recorded.status) == (metadata, container.status)


async def test_the_pods_handler_is_the_containers(world: World) -> None:
    pod = await world.sandboxes.run(pod_config(), "other")
    assert (await world.containers.create(pod.id, container_config())).metadata.runtime_handler == "other"


async def test_every_step_fails_in_turn_and_nothing_is_left(world: World, pod: PodSandbox, tmp_path: Path) -> None:
    only_the_pod = world.leftovers()
    left: dict[str, object] = {}
    config = container_config(log_path="0.log")
    log = tmp_path / "logs/0.log"

    async def after(step: str, failed: bool) -> None:
        if not failed:
            await world.containers.remove(world.parts.containers.list()[0].id)
            log.unlink()
        if (found := world.leftovers()) != only_the_pod or log.exists():
            left[step] = (found, log.exists())

    world.parts.oci_hooks.get()  # read once for all
    ignored = frozenset({"_record", "_spread"})
    steps = await Faults(ignored).each(lambda: world.containers.create(pod.id, config), after)
    assert {"lifecycle/spec_inputs.py:_account_file", "store/records.py:seal", "linux/fake.py:FakeKernel.perform"} <= set(steps)
    assert left == {}


async def test_a_runtime_that_fails_leaves_nothing(world: World, pod: PodSandbox) -> None:
    only_the_pod = world.leftovers()
    world.runtime.verbs.failures["create"] = CridError("no")
    with pytest.raises(CridError, match="no"):
        await world.containers.create(pod.id, container_config())
    assert world.leftovers() == only_the_pod
    world.runtime.verbs.failures.clear()
    await world.containers.create(pod.id, container_config())


async def test_a_process_with_somebody_elses_device_rules_is_ended(world: World, pod: PodSandbox) -> None:
    """On cgroup v1 it would have every device of the machine."""
    only_the_pod = world.leftovers()
    world.hierarchy.device_rules = "kubepods.slice/kubepods-pod1.slice"
    with pytest.raises(UnavailableError, match=r"device rules of cgroup 'kubepods.slice/kubepods-pod1.slice', not its own"):
        await world.containers.create(pod.id, container_config())
    assert world.leftovers() == only_the_pod


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (cri.ContainerConfig(), "metadata is missing"),
        (container_config(name=""), "name is empty"),
        (container_config(name="a/b"), "slash"),
        (cri.ContainerConfig(metadata=cri.ContainerMetadata(name="a")), "image is empty"),
        (container_config(log_path="/etc/passwd"), "log_path"),
        (container_config(log_path="a/../../x"), "log_path"),
        (container_config(mounts=[cri.Mount(container_path="/a", host_path="relative")]), "host_path"),
        (container_config(devices=[cri.Device(host_path="/dev/nope", container_path="/dev/x", permissions="r")]), "/dev/nope"),
    ],
)
async def test_what_contradicts_itself_is_refused(
    world: World, pod: PodSandbox, config: cri.ContainerConfig, message: str
) -> None:
    only_the_pod = world.leftovers()
    with pytest.raises(InvalidArgumentError, match=message):
        await world.containers.create(pod.id, config)
    assert world.leftovers() == only_the_pod


async def test_what_is_not_there(world: World, pod: PodSandbox) -> None:
    with pytest.raises(NotFoundError, match="pod sandbox"):
        await world.containers.create("f" * 64, container_config())
    config = container_config()
    config.image.image = "localhost/other:latest"
    with pytest.raises(NotFoundError, match="localhost/other"):
        await world.containers.create(pod.id, config)


async def test_a_stopped_pod_takes_no_more(world: World, pod: PodSandbox) -> None:
    await world.sandboxes.stop(pod.id)
    with pytest.raises(FailedPreconditionError, match="is stopped"):
        await world.containers.create(pod.id, container_config())


async def test_a_retry_joins_and_another_pods_container_of_the_name_is_another(world: World, pod: PodSandbox) -> None:
    gate = world.runtime.verbs.close_gate("create")
    work = [asyncio.create_task(world.containers.create(pod.id, container_config())) for _ in range(2)]
    await world.runtime.verbs.reached("create")
    gate.set()
    first, second = await asyncio.gather(*work)
    assert first is second
    other = await world.pod("other")
    assert (await world.containers.create(other.id, container_config())).id != first.id


async def test_discard_is_idempotent_and_needs_no_record(world: World) -> None:
    identifier = "e" * 64
    bundle = bundle_path(world.parts, identifier)
    bundle.mkdir(parents=True)
    world.images.prepare_rootfs(identifier, world.images.resolve(IMAGE))
    for _ in range(2):
        await discard(world.parts, identifier)
    assert world.leftovers() == {}


async def test_what_is_refused_has_been_nowhere(world: World, pod: PodSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a directory nor a mount nor a name came to be, even for a moment."""
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("a directory was made"))
    monkeypatch.setattr(world.parts.container_names, "reserve", lambda *_: pytest.fail("the name was reserved"))
    refused = {
        "working_dir": container_config(working_dir="relative"),
        "stop_signal": container_config(stop_signal=99),
        "command": container_config(""),
    }
    for field, wrong in refused.items():
        with pytest.raises(InvalidArgumentError, match=field):
            await world.containers.create(pod.id, wrong)


async def test_a_volume_whose_server_is_silent(
    world: World, pod: PodSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the mount; nothing is left, and the name is free."""
    answers = threading.Event()
    dead = str(tmp_path / "dead")
    real = host_paths.resolve

    def resolve(path: str, prefix: str = "") -> str:
        if path == dead:
            answers.wait()
        return real(path, prefix)

    monkeypatch.setattr(host_paths, "resolve", resolve)
    config = container_config()
    config.mounts.add(host_path=str(tmp_path), container_path="/a")
    config.mounts.add(host_path=dead, container_path="/b")
    before = world.leftovers()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(host_paths, "PATIENCE", 1.0)  # for all mounts: it must get as far as the dead one
            with pytest.raises(DeadlineExceededError, match=rf"mounts\[1\]\.host_path: a look at {dead} did not end within"):
                await world.containers.create(pod.id, config)
        assert world.leftovers() == before
        for _ in range(3):  # a retry does not take one thread more
            with pytest.raises(UnavailableError, match=rf"mounts\[1\]\.host_path: an earlier look at {dead} has not ended"):
                await world.containers.create(pod.id, config)
        assert repr(world.parts.volume_calls) == "<Threads crid-volumes threads=1 unfinished=1>"
        assert (await world.containers.create(pod.id, container_config())).status.state is ContainerState.CREATED
    finally:
        answers.set()
    await until(lambda: "unfinished=0" in repr(world.parts.volume_calls), "the server has answered")
    config.metadata.name = "other"
    assert (await world.containers.create(pod.id, config)).status.state is ContainerState.CREATED


async def test_the_cgroup_of_a_pod_that_is_removed_meanwhile_goes_with_what_was_being_made_in_it(world: World) -> None:
    pod = await world.pod()
    gate = world.runtime.verbs.close_gate("create")
    creating = asyncio.create_task(world.containers.create(pod.id, container_config()))
    await world.runtime.verbs.reached("create")
    world.hierarchy.refuses = True  # the process that waits for the runtime's hooks is in it
    await world.sandboxes.remove(pod.id)
    world.hierarchy.refuses = False
    gate.set()
    with pytest.raises(FailedPreconditionError, match="was stopped while container"):
        await creating
    assert f"crid/{pod.id}" in [path.strip("/") for path in world.hierarchy.removed]
    assert world.leftovers() == {}
