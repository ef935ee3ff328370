"""NRI plugins over a daemon's real socket: what they hear, what they adjust, what they may break."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from crid.cri import nri_pb2 as nri
from tests.harness.client import refused
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.nri_plugin import PATIENT, ScriptedPlugin, refusal
from tests.harness.registry import LocalRegistry
from tests.harness.tools import PATIENCE, until
from tests.integration.e2e.conftest import require_runtime

T = TypeVar("T")


@pytest.fixture(scope="module", params=["crun", "runc"])
def shared_node(request: pytest.FixtureRequest, registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A daemon that drops no plugin for an answer that comes late, as one of the tests' own may on a busy machine."""
    require_runtime(request.param)
    with Daemon(Settings(request.param, registries_conf=registry.registries_conf(), nri=PATIENT)) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        node.pod().printed("true")
        node.clean()
        yield node


def socket_of(node: Node) -> Path:
    return node.daemon.run_root / "nri.sock"


async def call(function: Callable[..., T], *args: object, **options: object) -> T:
    """Call the CRI client, which blocks."""
    return await asyncio.to_thread(function, *args, **options)


async def test_a_plugin_hears_of_a_whole_life_in_order(node: Node) -> None:
    async with ScriptedPlugin().ready(socket_of(node)) as plugin:
        pod = await call(node.pod)
        container = await call(pod.sleeper)
        await call(node.cri.stop, container)
        await call(node.cri.remove, container)
        await call(node.cri.stop_pod, pod.id)
        await call(node.cri.stop_pod, pod.id)
        await call(node.cri.remove_pod, pod.id)
        assert plugin.methods() == [
            "RunPodSandbox",
            "CreateContainer",
            "PostCreateContainer",
            "StartContainer",
            "PostStartContainer",
            "StopContainer",
            "RemoveContainer",
            "StopPodSandbox",
            "RemovePodSandbox",
        ]
        told = plugin.last("CreateContainer")
        assert told.pod.id == pod.id
        assert list(told.pod.ips) == [node_ip(plugin)]
        assert told.container.id == container
        assert told.container.args
        assert "run.oci.seccomp_bpf_data" not in told.container.annotations


def node_ip(plugin: ScriptedPlugin) -> str:
    """The address that the pod was told to have when it was run."""
    (ip,) = plugin.last("RunPodSandbox").pod.ips
    return str(ip)


async def test_adjustments_are_what_the_container_gets(node: Node, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("hello\n")
    adjust = nri.ContainerAdjustment(
        env=[nri.KeyValue(key="FROM_PLUGIN", value="yes")],
        mounts=[nri.Mount(destination="/injected", type="bind", source=str(tmp_path), options=["bind", "ro"])],
        annotations={"plugin": "10-test"},
    )
    adjust.linux.devices.add(path="/dev/injected", type="c", major=1, minor=3)
    adjust.linux.resources.memory.limit.value = 64 << 20
    adjust.linux.oom_score_adj.value = 900
    answers = {"CreateContainer": nri.CreateContainerResponse(adjust=adjust)}
    async with ScriptedPlugin(answers=answers).ready(socket_of(node)):
        pod = await call(node.pod)
        container = await call(pod.sleeper)
        script = 'echo "$FROM_PLUGIN"; cat /injected/greeting; test -c /dev/injected && echo device; cat /proc/1/oom_score_adj'
        result = await call(node.cri.exec, container, ["sh", "-c", script])
        assert result.stdout.decode().split() == ["yes", "hello", "device", "900"]
        status = await call(node.cri.status, container)
        assert status.resources.linux.memory_limit_in_bytes == 64 << 20


async def test_a_refused_creation_leaves_nothing_and_the_next_one_succeeds(node: Node) -> None:
    answers: dict[str, object] = {"CreateContainer": refusal("not this one"), "RunPodSandbox": refusal("no pod")}
    async with ScriptedPlugin(answers=answers).ready(socket_of(node)) as plugin:
        with refused(grpc.StatusCode.UNAVAILABLE, "10-test", "no pod"):
            await call(node.pod)
        del plugin.answers["RunPodSandbox"]
        pod = await call(node.pod)
        with refused(grpc.StatusCode.UNAVAILABLE, "10-test", "not this one"):
            await call(pod.create, "sleep", "100")
        assert plugin.methods()[-3:] == ["CreateContainer", "StopContainer", "RemoveContainer"]
        assert await call(node.cri.containers) == []
        del plugin.answers["CreateContainer"]
        await call(pod.sleeper)


async def test_a_container_that_ends_by_itself_is_told_once(node: Node) -> None:
    async with ScriptedPlugin().ready(socket_of(node)) as plugin:
        pod = await call(node.pod)
        container = await call(pod.run, "sh", "-c", "exit 3")
        await until(lambda: "StopContainer" in plugin.methods(), "the plugin hears of the end")
        assert plugin.last("StopContainer").container.exit_code == 3
        await call(node.cri.stop, container)
        await call(node.cri.remove, container)
        assert plugin.methods().count("StopContainer") == 1


async def test_a_late_plugin_is_told_what_exists_and_an_older_one_of_changes(node: Node) -> None:
    pod = await call(node.pod)
    container = await call(pod.sleeper)
    older = frozenset({"StopPodSandbox", "RemovePodSandbox", "RemoveContainer"})
    async with ScriptedPlugin(older=older).ready(socket_of(node)) as plugin:
        request = plugin.last("Synchronize")
        assert [item.id for item in request.pods] == [pod.id]
        assert [(item.id, item.state) for item in request.containers] == [(container, nri.CONTAINER_RUNNING)]
        await call(node.cri.remove_pod, pod.id)
        changes = [request.event for method, request in plugin.heard if method == "StateChange"]
        assert changes == [nri.STOP_POD_SANDBOX, nri.REMOVE_CONTAINER, nri.REMOVE_POD_SANDBOX]


async def test_a_plugin_that_does_not_answer_is_dropped_and_harms_nothing(own_node: Node) -> None:
    never = asyncio.Event()
    answers = {"CreateContainer": lambda _: never.wait()}
    async with ScriptedPlugin(answers=answers).ready(socket_of(own_node)) as plugin:
        pod = await call(own_node.pod)
        await call(pod.sleeper)
        assert plugin.connection.closed or "StartContainer" not in plugin.methods()
        never.set()


@pytest.mark.parametrize("rubbish", [b"\x00" * 4096, b"\xff" * 4096, b"\x00\x00\x00\x02\x00\x00\x00\x0cabcdefghijkl"])
async def test_rubbish_harms_nothing(node: Node, rubbish: bytes) -> None:
    _, writer = await asyncio.open_unix_connection(socket_of(node))
    writer.write(rubbish)
    await writer.drain()
    async with ScriptedPlugin().ready(socket_of(node)):
        await call((await call(node.pod)).sleeper)
    writer.close()


async def test_a_plugin_updates_and_evicts(node: Node) -> None:
    async with ScriptedPlugin().ready(socket_of(node)) as plugin:
        pod = await call(node.pod)
        container = await call(pod.run, "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
        await until(lambda: pod.log(container), "the trap is set")
        update = nri.ContainerUpdate(container_id=container)
        update.linux.resources.cpu.shares.value = 512
        unknown = nri.ContainerUpdate(container_id="f" * 64)
        ignored = nri.ContainerUpdate(container_id="e" * 64, ignore_failure=True)
        assert await plugin.update(update, unknown, ignored) == [unknown]
        assert (await call(node.cri.status, container)).resources.linux.cpu_shares == 512
        await plugin.update(evict=container)
        assert (await call(node.cri.wait_exited, container)).exit_code == 7


async def test_containers_made_while_a_plugin_synchronizes_are_told_once(node: Node) -> None:
    pod = await call(node.pod)
    before = await call(pod.sleeper)
    release = asyncio.Event()
    reached = asyncio.Event()

    async def hold(_: object) -> nri.SynchronizeResponse:
        reached.set()
        await release.wait()
        return nri.SynchronizeResponse()

    async with ScriptedPlugin(answers={"Synchronize": hold}).connected(socket_of(node)) as plugin:
        await plugin.register()
        await asyncio.wait_for(reached.wait(), PATIENCE)
        making = [asyncio.create_task(call(pod.sleeper)) for _ in range(3)]
        await asyncio.sleep(0.3)
        release.set()
        made = await asyncio.gather(*making)
        synchronized = [item.id for item in plugin.last("Synchronize").containers]
        created = [request.container.id for method, request in plugin.heard if method == "CreateContainer"]
        assert sorted([*synchronized, *created]) == sorted([before, *made])
