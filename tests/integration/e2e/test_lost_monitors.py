"""A container whose monitor dies, hangs or cannot write: it is never "running" when it is not, nor stopped without a code."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.cgroups import pid_of
from tests.harness.client import refused
from tests.harness.node import Node, Pod
from tests.harness.small_disk import SmallDisk, small_disk
from tests.harness.tools import eventually

UNTIL_STOP = "while [ ! -e /tmp/stop ]; do sleep 0.02; done; exit 9"


def monitor_of(node: Node, container: str) -> int:
    """Return the pid of the container's monitor, by its pid file."""
    return int((node.daemon.run_root / "containers" / container / "conmon-pidfile").read_text())


def kill_monitor(node: Node, container: str) -> None:
    """Let the monitor die as the kernel's OOM killer would."""
    monitor = monitor_of(node, container)
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{monitor}/exe").exists(), "the monitor is gone")


def test_the_container_goes_on_and_its_end_is_known(own_node: Node) -> None:
    """Nobody can tell the exit code then, which the status says; every verb works meanwhile."""
    node, pod = own_node, own_node.pod()
    container = pod.run("sh", "-c", UNTIL_STOP)
    kill_monitor(node, container)
    eventually(lambda: "monitor lost" in node.daemon.log_text(), "the daemon notices")
    assert node.cri.status(container).state == cri.CONTAINER_RUNNING
    assert node.cri.output(container, "echo", "here") == "here"
    node.cri.exec(container, ["touch", "/tmp/stop"])
    status = node.cri.wait_exited(container)
    assert (status.exit_code, status.reason) == (255, "MonitorLost")
    assert status.message.startswith("monitor lost")
    node.clean()


def test_stop_and_removal_need_no_monitor(own_node: Node) -> None:
    """Both work at once, before anybody has noticed that the monitor is gone."""
    node, pod = own_node, own_node.pod()
    stopped, removed, created = pod.sleeper(), pod.sleeper(), pod.create("true")
    for container in (stopped, removed, created):
        kill_monitor(node, container)
    node.cri.stop(stopped, timeout=1)
    assert node.cri.status(stopped).state == cri.CONTAINER_EXITED
    node.cri.remove(removed)
    node.cri.remove(created)
    assert node.cri.containers() == [stopped]
    node.clean()


def test_a_monitor_that_died_while_the_daemon_was_away(own_node: Node) -> None:
    """The next daemon tracks the process all the same."""
    node, pod = own_node, own_node.pod()
    container = pod.run("sh", "-c", UNTIL_STOP)
    process = pid_of(node, container)
    node.daemon.kill()
    os.kill(monitor_of(node, container), signal.SIGKILL)
    node.daemon.start()
    assert node.cri.status(container).state == cri.CONTAINER_RUNNING
    Path(f"/proc/{process}/root/tmp/stop").touch()
    assert node.cri.wait_exited(container).reason == "MonitorLost"
    node.clean()


def test_a_monitor_that_hangs_is_not_waited_for_and_believed_in_the_end(own_node: Node) -> None:
    """Stopped by a debugger, say: the stop ends without the code, which is right once the monitor can speak."""
    node, pod = own_node, own_node.pod()
    container = pod.run("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done")
    eventually(lambda: pod.log(container), "the trap is set")
    monitor = monitor_of(node, container)
    os.kill(monitor, signal.SIGSTOP)
    try:
        node.cri.stop(container, timeout=30)
        status = node.cri.status(container)
        assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 255, "Unknown")
    finally:
        os.kill(monitor, signal.SIGCONT)
    eventually(lambda: node.cri.status(container).exit_code == 7, "the monitor's word counts")
    assert node.cri.status(container).reason == "Error"
    node.clean()


@pytest.fixture
def full(own_node: Node) -> Iterator[tuple[Node, Pod, SmallDisk]]:
    """A node whose root directory is on a small disk, a pod, and that disk."""
    own_node.daemon.stop()
    with small_disk(own_node.daemon.root) as disk:
        own_node.daemon.start()
        try:
            yield own_node, own_node.pod(), disk
        finally:
            disk.make_room()
            own_node.clean()
            own_node.daemon.stop()
    own_node.daemon.start()


def test_a_full_disk_hides_no_end(full: tuple[Node, Pod, SmallDisk]) -> None:
    """Exit codes are known though nothing can be recorded; what was not recorded is, once there is room again."""
    node, pod, disk = full
    first = pod.run("sh", "-c", UNTIL_STOP)
    second = pod.sleeper()
    process = pid_of(node, first)
    disk.fill()
    os.kill(process, signal.SIGKILL)
    assert node.cri.wait_exited(first).exit_code == 137
    node.cri.stop(second)
    assert node.cri.status(second).exit_code == 137
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "No space left"):
        pod.create("true")
    node.daemon.kill()
    disk.fill()  # what it had open is free now
    node.daemon.start()  # without a record the monitors' own files tell
    assert {node.cri.status(each).exit_code for each in (first, second)} == {137}
    disk.make_room()
    node.cri.remove(first)
    assert node.cri.wait_exited(pod.run("true")).exit_code == 0


def test_a_full_disk_refuses_a_pod_and_nothing_is_left_of_it(full: tuple[Node, Pod, SmallDisk]) -> None:
    """The message says what is wrong, and the name is free."""
    node, _, disk = full
    before = node.daemon.footprint()
    config = node.pod_config()
    disk.fill()
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "No space left"):
        node.cri.run_pod(config)
    disk.make_room()
    assert node.daemon.left_since(before) == {}
    node.cri.run_pod(config)


def test_a_read_only_disk(own_node: Node) -> None:
    """As after an error of the disk, which ext4 can be told to have had: ends are known, removals say why they fail, and
    work for the daemon that starts once the disk is mended."""
    node = own_node
    node.daemon.stop()
    with small_disk(node.daemon.root) as disk:
        node.daemon.start()
        pod = node.pod()
        container = pod.sleeper()
        disk.fail()
        node.cri.stop(container)
        assert node.cri.status(container).exit_code == 137
        with pytest.raises(grpc.RpcError) as caught:
            node.cri.remove(container)
        assert "Read-only file system" in str(caught.value)
        node.daemon.kill()
        disk.mend()
        node.daemon.start()
        assert node.cri.status(container).exit_code == 137
        node.cri.remove(container)
        node.clean()
        node.daemon.stop()
    node.daemon.start()


def test_a_lost_notice_is_found(own_node: Node) -> None:
    """The daemon is stopped while the notice comes and goes, as if its event had been lost."""
    node, pod = own_node, own_node.pod()
    container = pod.run("sh", "-c", UNTIL_STOP)
    notice = node.daemon.run_root / "exits" / container
    os.kill(node.daemon.pid, signal.SIGSTOP)
    try:
        Path(f"/proc/{_first(node, container)}/root/tmp/stop").touch()
        eventually(notice.exists, "the end is noted")
        notice.unlink()
    finally:
        os.kill(node.daemon.pid, signal.SIGCONT)
    assert node.cri.wait_exited(container).exit_code == 9
    node.clean()


def _first(node: Node, container: str) -> int:
    return int((node.daemon.run_root / "containers" / container / "pidfile").read_text())
