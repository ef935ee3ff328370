"""Every RPC of the API over a socket: it is served or refused as docs/rpcs.md says, and what is served answers."""

import asyncio
import json
from typing import Any

import grpc
import pytest
from grpc import aio

from crid.cri import api_pb2 as cri
from crid.model.sandbox import NetworkAttachment
from crid.net.plugin import NetworkCondition, PodNetwork
from tests.unit.cri.test_rpcs_doc import rows
from tests.unit.lifecycle.world import IMAGE, container_config, pod_config
from tests.unit.server.conftest import METHODS, Served

DOCUMENTED = {name: status for _, name, status in rows()}


@pytest.mark.parametrize("name", [name for name in METHODS if name != "GetContainerEvents"])  # that one never ends: test_events
async def test_each_rpc_is_served_or_refused_as_documented(served: Served, name: str) -> None:
    try:
        await served.call(name)
    except aio.AioRpcError as error:
        code, details = error.code(), error.details() or ""
    else:
        code, details = grpc.StatusCode.OK, ""
    if DOCUMENTED[name] == "UNIMPLEMENTED":
        assert (code, name in details) == (grpc.StatusCode.UNIMPLEMENTED, True)
    else:
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), details


async def test_a_method_of_no_api(served: Served) -> None:
    call = served.channel.unary_unary("/runtime.v1.RuntimeService/Nonsense", bytes, bytes)
    with pytest.raises(aio.AioRpcError) as raised:
        await call(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_bytes_that_are_no_message_harm_nobody(served: Served) -> None:
    call = served.channel.unary_unary("/runtime.v1.RuntimeService/RunPodSandbox", bytes, bytes)
    with pytest.raises(aio.AioRpcError):
        await call(b"\xff\xff\xff")
    assert await served.call("Version")


async def test_a_client_that_gives_up_harms_nobody(served: Served) -> None:
    """The pod is made all the same, and the retry gets it."""
    request = cri.RunPodSandboxRequest(config=pod_config())
    attached, attach = asyncio.Event(), served.world.network.attach

    async def slow(pod: PodNetwork) -> NetworkAttachment:
        await attached.wait()
        return await attach(pod)

    served.world.network.attach = slow  # type: ignore[method-assign]  # a verb of the test's own
    service, _ = METHODS["RunPodSandbox"]
    call = served.channel.unary_unary(f"/{service}/RunPodSandbox", cri.RunPodSandboxRequest.SerializeToString, bytes)
    with pytest.raises(aio.AioRpcError) as raised:
        await call(request, timeout=0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    attached.set()
    answer = await served.call("RunPodSandbox", request)
    assert [item.id for item in served.world.parts.sandboxes.list()] == [answer.pod_sandbox_id]


async def test_a_pods_life(served: Served) -> None:
    call = served.call
    pod = (await call("RunPodSandbox", cri.RunPodSandboxRequest(config=pod_config()))).pod_sandbox_id
    create = cri.CreateContainerRequest(pod_sandbox_id=pod, config=container_config("obedient"), sandbox_config=pod_config())
    container = (await call("CreateContainer", create)).container_id
    await call("StartContainer", cri.StartContainerRequest(container_id=container))
    execute = cri.ExecSyncRequest(container_id=container, cmd=["echo", "hello"], timeout=5)
    assert (await call("ExecSync", execute)).stdout == b"hello\n"
    status = await call("ContainerStatus", cri.ContainerStatusRequest(container_id=container, verbose=True))
    assert status.status.state == cri.CONTAINER_RUNNING
    assert json.loads(status.info["info"])["sandboxID"] == pod
    status = await call("PodSandboxStatus", cri.PodSandboxStatusRequest(pod_sandbox_id=pod, verbose=True))
    assert status.status.network.ip == "10.88.0.2"
    assert json.loads(status.info["info"])["namespaces"]["network"].endswith("/net")
    limits = cri.LinuxContainerResources(cpu_shares=100)
    await call("UpdateContainerResources", cri.UpdateContainerResourcesRequest(container_id=container, linux=limits))
    stats = (await call("ContainerStats", cri.ContainerStatsRequest(container_id=container))).stats
    assert stats.cpu.usage_core_nano_seconds.value == 1_000_000
    stats = (await call("PodSandboxStats", cri.PodSandboxStatsRequest(pod_sandbox_id=pod))).stats
    assert [item.attributes.id for item in stats.linux.containers] == [container]
    await call("StopContainer", cri.StopContainerRequest(container_id=container, timeout=-1))
    status = await call("ContainerStatus", cri.ContainerStatusRequest(container_id=container))
    assert (status.status.state, status.status.exit_code) == (cri.CONTAINER_EXITED, 137)
    for _ in range(2):
        await call("RemoveContainer", cri.RemoveContainerRequest(container_id=container))
        await call("StopPodSandbox", cri.StopPodSandboxRequest(pod_sandbox_id=pod))
    for _ in range(2):
        await call("RemovePodSandbox", cri.RemovePodSandboxRequest(pod_sandbox_id=pod))
    assert served.world.leftovers() == {}


@pytest.mark.parametrize("words", ["lone \ud800 half", "long " * 100_000])
async def test_what_a_network_plugin_says_does_not_keep_the_node_from_answering(served: Served, words: str) -> None:
    served.world.network.conditions = NetworkCondition(False, "NetworkPluginNotReady", words)
    status = (await served.call("Status")).status
    (network,) = [item for item in status.conditions if item.type == "NetworkReady"]
    assert network.message[:5] == words[:5]
    assert len(network.message) < 3000


async def test_the_node(served: Served) -> None:
    version = await served.call("Version")
    assert (version.runtime_name, version.runtime_api_version) == ("crid", "v1")
    status = await served.call("Status", cri.StatusRequest(verbose=True))
    assert {item.type: item.status for item in status.status.conditions} == {"RuntimeReady": True, "NetworkReady": True}
    assert [handler.name for handler in status.runtime_handlers] == ["", "fake", "other"]
    for handler in status.runtime_handlers:
        assert handler.features == cri.RuntimeHandlerFeatures(recursive_read_only_mounts=True, user_namespaces=False)
    assert status.features == cri.RuntimeFeatures(supplemental_groups_policy=True, mount_options=True)
    assert json.loads(status.info["info"])["cdi"] == {"directories": [], "devices": [], "conflicts": {}, "errors": {}}
    assert json.loads(status.info["info"])["defaultRuntime"] == "fake"
    assert (await served.call("RuntimeConfig")).linux.cgroup_driver == cri.CGROUPFS


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("RunPodSandbox", cri.RunPodSandboxRequest()),
        ("CreateContainer", cri.CreateContainerRequest(pod_sandbox_id="x")),
        ("UpdateContainerResources", cri.UpdateContainerResourcesRequest(container_id="x")),
        ("ExecSync", cri.ExecSyncRequest(container_id="x")),
        ("PullImage", cri.PullImageRequest()),
        ("PullImage", cri.PullImageRequest(image=cri.ImageSpec(image=IMAGE, runtime_handler="kata"))),
        ("ImageStatus", cri.ImageStatusRequest()),
        ("RemoveImage", cri.RemoveImageRequest()),
        ("ContainerStatus", cri.ContainerStatusRequest()),
    ],
)
async def test_what_makes_no_sense_by_itself(served: Served, name: str, request_: object) -> None:
    assert (await served.refused(name, request_))[0] is grpc.StatusCode.INVALID_ARGUMENT


NOBODY = "f" * 64


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("PodSandboxStatus", cri.PodSandboxStatusRequest(pod_sandbox_id=NOBODY)),
        ("PodSandboxStats", cri.PodSandboxStatsRequest(pod_sandbox_id=NOBODY)),
        ("CreateContainer", cri.CreateContainerRequest(pod_sandbox_id=NOBODY, config=container_config())),
        ("StartContainer", cri.StartContainerRequest(container_id=NOBODY)),
        ("ContainerStatus", cri.ContainerStatusRequest(container_id=NOBODY)),
        ("ContainerStats", cri.ContainerStatsRequest(container_id=NOBODY)),
        ("ReopenContainerLog", cri.ReopenContainerLogRequest(container_id=NOBODY)),
        ("ExecSync", cri.ExecSyncRequest(container_id=NOBODY, cmd=["true"])),
        ("PullImage", cri.PullImageRequest(image=cri.ImageSpec(image="localhost/nothing"))),
    ],
)
async def test_nobody_of_that_id(served: Served, name: str, request_: object) -> None:
    code, message = await served.refused(name, request_)
    assert code is grpc.StatusCode.NOT_FOUND
    assert NOBODY in message or "localhost/nothing" in message


async def test_filters(served: Served) -> None:
    world = served.world
    pods = [await world.pod(name, labels={"app": name}) for name in ("a", "b")]
    items = [await world.running(pod, "stubborn") for pod in pods]
    await world.sandboxes.stop(pods[1].id)

    async def pod_ids(**conditions: Any) -> list[int]:
        wanted = cri.PodSandboxFilter(**conditions)
        found = (await served.call("ListPodSandbox", cri.ListPodSandboxRequest(filter=wanted))).items
        return [[pod.id for pod in pods].index(item.id) for item in found]

    async def container_ids(**conditions: Any) -> list[int]:
        wanted = cri.ContainerFilter(**conditions)
        found = (await served.call("ListContainers", cri.ListContainersRequest(filter=wanted))).containers
        return [[item.id for item in items].index(entry.id) for entry in found]

    ready, not_ready = (cri.PodSandboxStateValue(state=state) for state in (cri.SANDBOX_READY, cri.SANDBOX_NOTREADY))
    assert await pod_ids() == [0, 1]
    assert await pod_ids(id=pods[0].id[:10]) == [0]
    assert await pod_ids(state=ready) == [0]
    assert await pod_ids(state=not_ready) == [1]
    assert await pod_ids(label_selector={"app": "b"}) == [1]
    assert await pod_ids(label_selector={"app": "b"}, state=ready) == []
    running, exited, created = (
        cri.ContainerStateValue(state=state) for state in (cri.CONTAINER_RUNNING, cri.CONTAINER_EXITED, cri.CONTAINER_CREATED)
    )
    assert await container_ids() == [0, 1]
    assert await container_ids(id=items[1].id) == [1]
    assert await container_ids(pod_sandbox_id=pods[0].id[:10]) == [0]
    assert await container_ids(state=running) == [0]
    assert await container_ids(state=exited) == [1]
    assert await container_ids(state=created) == []
    assert await container_ids(id=items[1].id, state=running) == []
    stats = await served.call("ListPodSandboxStats")
    assert [item.attributes.id for item in stats.stats] == [pods[0].id]
    wanted = cri.ContainerStatsFilter(pod_sandbox_id=pods[0].id)
    stats = await served.call("ListContainerStats", cri.ListContainerStatsRequest(filter=wanted))
    assert [item.attributes.id for item in stats.stats] == [items[0].id]


async def test_images(served: Served) -> None:
    spec = cri.ImageSpec(image=IMAGE)
    listed = (await served.call("ListImages")).images
    assert [item.repo_tags[0] for item in listed] == [IMAGE]
    assert (await served.call("ImageStatus", cri.ImageStatusRequest(image=spec))).image == listed[0]
    assert (await served.call("PullImage", cri.PullImageRequest(image=spec))).image_ref == listed[0].id
    assert (await served.call("ImageFsInfo")).image_filesystems[0].used_bytes.value == 5
    for _ in range(2):
        await served.call("RemoveImage", cri.RemoveImageRequest(image=spec))
    assert not (await served.call("ImageStatus", cri.ImageStatusRequest(image=spec))).HasField("image")
