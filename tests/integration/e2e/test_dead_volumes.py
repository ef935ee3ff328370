"""Volumes on a file system whose server is gone, as NFS has it: whoever looks at one is held in the kernel."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.linux.mount import MNT_DETACH, mount, unmount
from tests.harness.node import Node, Pod

MORE_THAN_THREADS = 40
"""Containers that want a dead volume; asyncio's own pool has at most 32 threads."""


@contextlib.contextmanager
def dead_volume(directory: Path) -> Iterator[Path]:
    """Mount a FUSE file system for the block whose server, we, never answers; whoever waits for it gets an error at the end."""
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"the kernel has no FUSE: {error}")
    directory.mkdir()
    try:
        mount("nobody", str(directory), "fuse", 0, f"fd={server},rootmode=40000,user_id=0,group_id=0")
        try:
            yield directory
        finally:
            unmount(str(directory), MNT_DETACH)
    finally:
        os.close(server)


def creation(node: Node, pod: Pod, name: str, volume: Path) -> "grpc.Future[cri.CreateContainerResponse]":
    """Begin to create a container that has `volume`."""
    config = node.container_config("true", name=name)
    config.mounts.add(host_path=str(volume), container_path="/data")
    request = cri.CreateContainerRequest(pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config)
    return node.cri.runtime.CreateContainer.future(request, timeout=600)


def test_they_hold_up_nobody_else(own_node: Node, tmp_path: Path) -> None:
    """However many containers wait for one, pods come and go, and the daemon ends when it is asked to."""
    node, pod = own_node, own_node.pod()
    with dead_volume(tmp_path / "dead") as volume:
        calls = [creation(node, pod, f"c{number}", volume) for number in range(MORE_THAN_THREADS)]
        other = node.pod()
        assert other.printed("echo", "here") == "here"
        assert node.cri.runtime.ListContainerStats(cri.ListContainerStatsRequest(), timeout=30).stats == []
        node.cri.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=other.id), timeout=30)
        node.cri.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=other.id), timeout=30)
        assert not any(call.done() for call in calls)
        node.daemon.stop()
    node.daemon.start()
    assert node.cri.containers() == []
    node.clean()
