"""In which order things end, seen with real processes while the daemon is made to stand still in between."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.cgroups import ROOT, UNIFIED, path_of, pid_of
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node, Pod
from tests.harness.procfs import command, state
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually
from tests.integration.e2e.conftest import require_runtime

pytestmark = pytest.mark.root

SHARED = cri.LinuxContainerSecurityContext(namespace_options=namespaces(pid=cri.POD))
STUBBORN = ("sh", "-c", "trap 'touch /tmp/asked' TERM; touch /tmp/ready; while :; do sleep 0.05; done")
EXECUTED = ["sh", "-c", "touch /tmp/executed; sleep 1000000; true"]


@pytest.fixture(params=["crun", "runc"])
def ending(request: pytest.FixtureRequest, registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node for one test, which stops its daemon at steps."""
    require_runtime(request.param)
    with Daemon(Settings(request.param, registries_conf=registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        yield node
        node.clean()


def stalling(node: Node, step: str) -> None:
    """Start the daemon anew, so that it stands still where it reaches `step`."""
    node.daemon.stop()
    node.daemon.start({"CRID_TRACE_STALL": step})


@contextlib.contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[threading.Thread]:
    """Do `action` beside the block, and wait for its end."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
        assert not thread.is_alive()


@contextlib.contextmanager
def stalled(node: Node) -> Iterator[None]:
    """Wait until the daemon stands still; let it go on after the block."""
    eventually(lambda: state(node.daemon.pid) == "T", "the daemon has reached the step")
    try:
        yield
    finally:
        os.kill(node.daemon.pid, signal.SIGCONT)


def links() -> set[str]:
    """The host's network links."""
    listed = subprocess.run(["ip", "-o", "link"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[1] for line in listed.splitlines()}


def pause_of(node: Node, pod: Pod) -> int:
    answer = node.cri.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True))
    return int(json.loads(answer.info["info"])["pid"])


def processes(node: Node, container: str) -> set[int]:
    """All processes in the container's cgroup, but for its first one."""
    first = pid_of(node, container)
    procs = (ROOT if UNIFIED else ROOT / "memory") / path_of(first, "memory").lstrip("/") / "cgroup.procs"
    return {int(pid) for pid in procs.read_text().split()} - {first}


def inside(node: Node, container: str, path: str) -> None:
    """Wait until a file is there in the container."""
    node.cri.output(container, "sh", "-c", f"while [ ! -e {path} ]; do sleep 0.05; done")


def test_a_pods_containers_end_before_its_pause_process_and_its_network(ending: Node) -> None:
    stalling(ending, "pod stop: stopping its pause process")
    pod = ending.pod(options=namespaces(pid=cri.POD))
    pids = [pid_of(ending, pod.sleeper(security=SHARED)) for _ in range(3)]
    pause, link = pause_of(ending, pod), links()
    with meanwhile(lambda: ending.cri.stop_pod(pod.id)), stalled(ending):
        assert [state(pid) for pid in pids] == ["X"] * 3
        assert state(pause) != "X"
        assert links() == link
    assert state(pause) == "X"
    assert links() < link
    assert ending.cri.pod_status(pod.id).state == cri.SANDBOX_NOTREADY


def test_a_pods_containers_end_side_by_side(ending: Node) -> None:
    """The second is killed before anybody has taken note of the first one's end."""
    stalling(ending, "container stop: killing its process@2")
    pod = ending.pod()
    containers = [pod.sleeper() for _ in range(2)]
    notices = ending.daemon.run_root / "exits"
    with meanwhile(lambda: ending.cri.stop_pod(pod.id)), stalled(ending):
        eventually(lambda: {path.name for path in notices.iterdir()} & set(containers), "the first one's end is told")
        assert sum(state(pid_of_record(ending, container)) != "X" for container in containers) == 1
    assert [ending.cri.status(container).exit_code for container in containers] == [137, 137]


def pid_of_record(node: Node, container: str) -> int:
    """The container's process, by the file that its monitor wrote: the daemon does not answer."""
    return int((node.daemon.run_root / "containers" / container / "pidfile").read_text())


def test_commands_go_on_in_the_grace_period_and_end_after_the_container(ending: Node) -> None:
    """In a PID namespace that they share with others, where the kernel does not end them."""
    stalling(ending, "container stop: ending what it left running")
    pod = ending.pod(options=namespaces(pid=cri.POD))
    container = pod.run(*STUBBORN, security=SHARED)
    neighbour = pod.sleeper(security=SHARED)
    inside(ending, container, "/tmp/ready")
    first, other = pid_of(ending, container), pid_of(ending, neighbour)
    results: list[cri.ExecSyncResponse | grpc.RpcError] = []

    def execute() -> None:
        try:
            results.append(ending.cri.exec(container, EXECUTED))
        except grpc.RpcError as error:
            results.append(error)

    with meanwhile(lambda: ending.cri.stop(container, timeout=50)):
        inside(ending, container, "/tmp/asked")
        with meanwhile(execute):
            inside(ending, container, "/tmp/executed")
            commands = {pid for pid in processes(ending, container) if b"1000000" in command(pid)}
            assert commands
            with meanwhile(lambda: ending.cri.stop(container, timeout=0)), stalled(ending):
                assert state(first) == "X"
                assert "X" not in {state(pid) for pid in commands}
            eventually(lambda: {state(pid) for pid in commands} == {"X"}, "what was killed is dead")
    assert len(results) == 1
    assert state(other) != "X"
    assert ending.cri.status(container).exit_code == 137
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "not running"):
        ending.cri.exec(container, ["true"])


def test_a_container_in_the_namespace_of_another(ending: Node) -> None:
    """It ends by itself without the other, taking its children along; and it ends with the other."""
    pod = ending.pod()
    target = pod.sleeper()
    aiming = cri.LinuxContainerSecurityContext(namespace_options=namespaces(pid=cri.TARGET, target=target))
    script = "sleep 1000000 & touch /tmp/ready; wait"
    first, second = (pod.run("sh", "-c", script, security=aiming) for _ in range(2))
    for container in (first, second):
        inside(ending, container, "/tmp/ready")
    children = processes(ending, first)
    assert children
    ending.cri.stop(first)
    assert ending.cri.status(first).exit_code == 137
    eventually(lambda: {state(pid) for pid in children} == {"X"}, "what was killed is dead")
    assert [ending.cri.status(container).state for container in (target, second)] == [cri.CONTAINER_RUNNING] * 2
    ending.cri.stop(target)
    status = ending.cri.wait_exited(second)
    assert (status.exit_code, status.reason) == (137, "Error")
    config = ending.container_config("true", security=aiming)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "target_id", "not running"):
        ending.cri.create(pod.id, config, pod.config)
