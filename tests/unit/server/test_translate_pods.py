"""Pods and containers as clients see them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.model.container import Container, ContainerState, ContainerStatus
from crid.model.sandbox import PodSandbox, SandboxStatus
from crid.oci.spec import signals
from crid.server import translate_pods
from tests.unit.store import objects

DIRECTORY = Path("/var/lib/crid/x")
RUNNING = ContainerStatus(created_at=5, started_at=6)


def container(status: ContainerStatus = RUNNING, **changes: Any) -> Container:
    return Container(replace(objects.container_metadata(DIRECTORY), **changes), status)


def test_the_map_of_a_user_namespace_is_shown_whoever_chose_it() -> None:
    metadata = objects.sandbox_metadata(DIRECTORY)
    options = metadata.config.linux.security_context.namespace_options
    options.userns_options.mode = cri.NODE
    shown = translate_pods.sandbox_status(PodSandbox(metadata, SandboxStatus())).linux.namespaces.options
    assert shown.userns_options == objects.IDMAP.to_cri()
    assert options.userns_options == cri.UserNamespace(mode=cri.NODE)
    plain = PodSandbox(replace(metadata, idmap=None), SandboxStatus())
    assert translate_pods.sandbox_status(plain).linux.namespaces.options == options


def test_every_state_has_its_cri_state() -> None:
    assert set(translate_pods.CONTAINER_STATES) == set(ContainerState)
    assert translate_pods.CONTAINER_STATES[ContainerState.PAUSED] == cri.CONTAINER_RUNNING


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (RUNNING, ""),
        (replace(RUNNING, oom_killed=True), ""),
        (replace(RUNNING, finished_at=9), "Completed"),
        (replace(RUNNING, finished_at=9, exit_code=1), "Error"),
        (replace(RUNNING, finished_at=9, exit_code=137, oom_killed=True), "OOMKilled"),
        (replace(RUNNING, finished_at=9, exit_code=0, oom_killed=True), "OOMKilled"),
        (replace(RUNNING, finished_at=9, exit_code=128, reason="StartError"), "StartError"),
        (replace(RUNNING, finished_at=9, exit_code=255, reason="Unknown", oom_killed=True), "Unknown"),
    ],
)
def test_reason(status: ContainerStatus, reason: str) -> None:
    assert translate_pods.container_status(container(status)).reason == reason


@pytest.mark.parametrize("value", [value for value in cri.Signal.values() if value != cri.SIGNAL_RUNTIME_DEFAULT])
def test_every_stop_signal_comes_back_under_a_name_of_its_own_number(value: cri.Signal.ValueType) -> None:
    name = signals.from_cri(value)
    shown = translate_pods.container_status(container(stop_signal=name)).stop_signal
    assert shown != cri.SIGNAL_RUNTIME_DEFAULT
    assert signals.number(signals.from_cri(shown)) == signals.number(name)


def test_an_exit_code_is_shown_once_there_is_one() -> None:
    assert translate_pods.container_status(container(replace(RUNNING, exit_code=7))).exit_code == 0
    assert translate_pods.container_status(container(replace(RUNNING, exit_code=7, finished_at=9))).exit_code == 7


def test_the_limits_in_force_are_shown() -> None:
    assert not translate_pods.container_status(container()).HasField("resources")
    config = cri.ContainerConfig(linux=cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(cpu_shares=5)))
    assert translate_pods.container_status(container(config=config)).resources.linux.cpu_shares == 5
    updated = replace(RUNNING, resources=cri.LinuxContainerResources(cpu_shares=6))
    assert translate_pods.container_status(container(updated, config=config)).resources.linux.cpu_shares == 6


@pytest.mark.parametrize("show", [translate_pods.container_status, translate_pods.container_item])
@pytest.mark.parametrize(
    ("asked", "written", "shown"),
    [
        ("sha256:" + "a" * 64, "registry.example/web:1", "registry.example/web:1"),
        ("a" * 64, "web", "web"),
        ("a" * 12, "web", "web"),
        ("sha256:" + "a" * 64, "", "sha256:" + "a" * 64),
        ("registry.example/web:2", "web:1", "registry.example/web:2"),
    ],
)
def test_an_image_is_shown_by_name(
    show: Callable[[Container], cri.ContainerStatus | cri.Container], asked: str, written: str, shown: str
) -> None:
    """As the pod has it, where the kubelet asks for the id that it got from the pull."""
    spec = cri.ImageSpec(image=asked, user_specified_image=written)
    assert show(container(config=cri.ContainerConfig(image=spec), image_id="sha256:" + "a" * 64)).image.image == shown


def test_an_answer_is_no_part_of_the_record() -> None:
    item = container()
    message = translate_pods.container_status(item)
    message.metadata.name = message.image.image = "changed"
    assert item.metadata.config.metadata.name == "app"
    assert item.metadata.config.image.image == "busybox"


def test_a_stopped_pod_has_no_address() -> None:
    pod = PodSandbox(objects.sandbox_metadata(DIRECTORY), SandboxStatus())
    ready = translate_pods.sandbox_status(pod)
    assert (ready.state, ready.network.ip) == (cri.SANDBOX_READY, "10.88.0.2")
    assert [address.ip for address in ready.network.additional_ips] == ["fd00::2"]
    pod.publish(SandboxStatus(stopped_at=9))
    stopped = translate_pods.sandbox_status(pod)
    assert (stopped.state, stopped.network.ip, len(stopped.network.additional_ips)) == (cri.SANDBOX_NOTREADY, "", 0)


def test_lists_and_statuses_agree() -> None:
    item, pod = container(), PodSandbox(objects.sandbox_metadata(DIRECTORY), SandboxStatus())
    for whole, short in (
        (translate_pods.container_status(item), translate_pods.container_item(item)),
        (translate_pods.sandbox_status(pod), translate_pods.sandbox_item(pod)),
    ):
        for name in ("id", "metadata", "state", "created_at", "labels", "annotations"):
            assert getattr(whole, name) == getattr(short, name)


def test_verbose_is_json_whatever_it_is_given() -> None:
    facts: dict[str, object] = {"path": Path("/a"), "message": cri.PodIP(ip="x"), "n": 1}
    assert json.loads(translate_pods.verbose(facts)["info"]) == {"path": "/a", "message": "0a0178", "n": 1}
