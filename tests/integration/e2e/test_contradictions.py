"""Options that contradict each other or the machine: refused with the field's name, and nothing of them is left."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.node import Node
from tests.integration.e2e import contradictions
from tests.integration.e2e.contradictions import INVALID, Contradiction


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of the host; beside it a link to itself and a pipe."""
    path = tmp_path / "file"
    path.write_text("{")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    return path


def merge(case: Contradiction, sound: Message, node: Node, file: Path) -> None:
    """Merge `case` into a sound config. What speaks of seccomp's older field has no newer one beside it."""
    if "seccomp_profile_path" in case.text and isinstance(sound, cri.ContainerConfig):
        sound.linux.security_context.ClearField("seccomp")
    text = case.text.replace("{image}", node.image)
    for name in ("file", "loop", "fifo"):
        text = text.replace(f"{{{name}}}", str(file.with_name(name)))
    text_format.Merge(text, sound)


def outcome(call: Callable[[], object], case: Contradiction) -> str:
    """Return what is wrong with how `call` was refused, "" for nothing."""
    try:
        call()
    except grpc.RpcError as error:
        found: Any = error  # a grpc.Call as well, which the stubs cannot say
        right = found.code() == case.code and case.word in found.details()
        return "" if right else f"{found.code()}: {found.details()}"
    return "was not refused"


def test_containers(node: Node, file: Path) -> None:
    """No process, mount, directory, cgroup or log is left of any; and the same pod takes a sound one of that name."""
    pod = node.pod()
    wrong: dict[str, object] = {}
    before = node.daemon.footprint()
    for case in contradictions.CONTAINERS:
        config = node.container_config("echo", "sound", name="same")
        merge(case, config, node, file)
        if said := outcome(partial(node.cri.create, pod.id, config, pod.config), case):
            wrong[case.text] = said
        elif left := node.daemon.left_since(before):
            wrong[case.text] = left
            before = node.daemon.footprint()
    assert wrong == {}
    assert node.cri.containers() == []
    assert pod.printed("echo", "sound", name="same") == "sound"


def test_pods(node: Node, file: Path) -> None:
    """No namespace, address, mount, directory or cgroup is left of any; and a sound one of that name is taken."""
    sound = node.pod_config(name="same", uid="uid")
    wrong: dict[str, object] = {}
    before = node.daemon.footprint()
    for case in contradictions.PODS:
        config = cri.PodSandboxConfig()
        config.CopyFrom(sound)
        merge(case, config, node, file)
        if said := outcome(partial(node.cri.run_pod, config), case):
            wrong[case.text] = said
        elif left := node.daemon.left_since(before):
            wrong[case.text] = left
            before = node.daemon.footprint()
    assert wrong == {}
    assert node.cri.pods() == []
    node.cri.run_pod(sound)


def limits(case: Contradiction) -> cri.LinuxContainerResources:
    """Return what `case` asks for, and a limit that is sound beside it."""
    config = text_format.Parse(case.text, cri.ContainerConfig())
    if not config.linux.resources.cpu_shares:
        config.linux.resources.cpu_shares = 77
    return config.linux.resources


def test_an_update_of_a_container_is_all_or_nothing(node: Node) -> None:
    """What is refused has changed nothing."""
    sound = cri.LinuxContainerResources(cpu_shares=512, oom_score_adj=1000)
    container = node.pod().sleeper(resources=sound)
    for case in contradictions.RESOURCES:
        request = cri.UpdateContainerResourcesRequest(container_id=container, linux=limits(case))
        with refused(INVALID, case.word):
            node.cri.runtime.UpdateContainerResources(request)
        assert node.cri.status(container).resources.linux == sound


def test_an_update_of_a_pod_is_all_or_nothing(node: Node) -> None:
    """Its limits, and what it costs beside its containers."""
    pod = node.pod()
    for case in contradictions.RESOURCES:
        for field in ("resources", "overhead"):
            request = cri.UpdatePodSandboxResourcesRequest(pod_sandbox_id=pod.id, **{field: limits(case)})
            with refused(INVALID, f"{field}: {case.word}"):
                node.cri.runtime.UpdatePodSandboxResources(request)
