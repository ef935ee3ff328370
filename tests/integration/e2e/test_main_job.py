"""The main job as the kubelet does it: a pod, a container, its log, a command in it, its exit code, and no trace after."""

import datetime
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.configs import namespaces
from tests.harness.daemon import SYSTEMD, Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually


def test_a_pod_from_start_to_end(node: Node) -> None:
    """Every state on the way is what the CRI says it is."""
    pod = node.pod(labels={"app": "web"})
    status = node.cri.pod_status(pod.id)
    assert status.state == cri.SANDBOX_READY
    assert status.network.ip.startswith(node.daemon.subnet.rpartition(".")[0])
    assert dict(status.labels)["app"] == "web"
    assert status.annotations == pod.config.annotations

    container = pod.create("sh", "-c", "trap 'exit 7' TERM; echo out; echo err >&2; while :; do sleep 0.05; done", name="main")
    assert node.cri.status(container).state == cri.CONTAINER_CREATED
    node.cri.start(container)
    assert node.cri.status(container).state == cri.CONTAINER_RUNNING
    assert node.cri.output(container, "echo", "from exec") == "from exec"
    eventually(lambda: len(pod.log(container)) == 2, "both lines are logged: the trap is set")

    node.cri.stop(container, timeout=50)
    ended = node.cri.status(container)
    assert (ended.state, ended.exit_code) == (cri.CONTAINER_EXITED, 7)
    assert ended.created_at <= ended.started_at <= ended.finished_at
    assert ended.log_path == str(Path(pod.config.log_directory) / "main/0.log")
    assert {(line.stream, line.tag, line.text) for line in pod.log(container)} == {
        ("stdout", "F", "out"),
        ("stderr", "F", "err"),  # two pipes: who reads them at once cannot tell which was first
    }

    node.cri.remove(container)
    assert node.cri.containers() == []
    node.cri.stop_pod(pod.id)
    assert node.cri.pod_status(pod.id).state == cri.SANDBOX_NOTREADY
    node.cri.remove_pod(pod.id)
    assert node.cri.pods() == []


def test_log_lines_are_in_the_kubernetes_format(node: Node) -> None:
    """RFC 3339 times with nanoseconds and offset, in order; an unfinished line is P, and empty lines stay."""
    pod = node.pod()
    container = pod.run("sh", "-c", "echo; echo 'two  spaces '; printf 'no newline'")
    node.cri.wait_exited(container)
    lines = pod.log(container)
    assert "".join(line.text + ("\n" if line.tag == "F" else "") for line in lines).startswith("\ntwo  spaces \nno newline")
    times = [datetime.datetime.fromisoformat(line.time) for line in lines]
    assert times == sorted(times)
    assert all(time.utcoffset() is not None for time in times)
    assert all(len(line.time.partition(".")[2].rstrip("Z").partition("+")[0].partition("-")[0]) == 9 for line in lines)


def test_a_line_longer_than_a_read_is_partial(node: Node) -> None:
    """A long line comes in pieces tagged P, the last one F, and together they are the line."""
    pod = node.pod()
    container = pod.run("sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x; echo")
    node.cri.wait_exited(container)
    lines = pod.log(container)
    assert "".join(line.text for line in lines) == "x" * 50000
    assert {line.tag for line in lines[:-1]} == {"P"}
    assert lines[-1].tag == "F"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill -TERM $$; sleep 9", 143)]
)
def test_exit_codes(node: Node, script: str, code: int) -> None:
    """An exit code is passed on; a death by signal is 128 + signal. PID 1 needs a child to die by its own signal."""
    pod = node.pod(options=cri.NamespaceOption(pid=cri.NODE))
    container = pod.run(
        "sh", "-c", script, security=cri.LinuxContainerSecurityContext(namespace_options=cri.NamespaceOption(pid=cri.NODE))
    )
    status = node.cri.wait_exited(container)
    assert status.exit_code == code
    assert status.reason == ("Completed" if code == 0 else "Error")


def test_pods_reach_each_other_and_the_node(node: Node) -> None:
    """One pod's server answers another pod over the bridge."""
    server, client = node.pod(), node.pod()
    server.run("sh", "-c", "echo hello >/tmp/index.html; exec busybox httpd -f -p 8080 -h /tmp")
    address = node.cri.pod_status(server.id).network.ip
    container = client.run(
        "sh", "-c", f"for i in $(seq 400); do wget -qO- http://{address}:8080/ && exit 0; sleep 0.1; done; exit 1"
    )
    assert node.cri.wait_exited(container).exit_code == 0
    assert [line.text for line in client.log(container) if line.stream == "stdout"] == ["hello"]


def test_version_and_status(node: Node) -> None:
    """The daemon says who it is and that it is ready, and names the default handler with an empty name, too."""
    version = node.cri.version()
    assert (version.runtime_name, version.runtime_api_version) == ("crid", "v1")
    status = node.cri.runtime.Status(cri.StatusRequest(verbose=True))
    assert {condition.type: condition.status for condition in status.status.conditions} == {
        "RuntimeReady": True,
        "NetworkReady": True,
    }
    assert "" in {handler.name for handler in status.runtime_handlers}
    driver = node.cri.runtime.RuntimeConfig(cri.RuntimeConfigRequest()).linux.cgroup_driver
    assert driver == (cri.SYSTEMD if SYSTEMD else cri.CGROUPFS)
    node.cri.runtime.UpdateRuntimeConfig(cri.UpdateRuntimeConfigRequest())


def test_two_daemons_side_by_side(own_node: Node, registry: LocalRegistry, image: str) -> None:
    """Two instances with the same pod do not see or disturb each other, nor does the end of one."""
    with Daemon(Settings(registries_conf=registry.registries_conf())) as daemon:
        other = Node(daemon, daemon.cri.pull(image))
        pods = {node: node.pod(name="twin", uid="same") for node in (own_node, other)}
        for node, pod in pods.items():
            assert node.cri.pods() == [pod.id]
        assert len({node.cri.pod_status(pod.id).network.ip for node, pod in pods.items()}) == 2
        other.clean()
    context = cri.LinuxContainerSecurityContext(
        capabilities=cri.Capability(add_capabilities=["NET_RAW"]), namespace_options=namespaces()
    )
    script = "ping -c 1 -W 50 $(ip route | awk '/default/ {print $3}') >/dev/null && echo reached"
    assert pods[own_node].printed("sh", "-c", script, security=context) == "reached"


def test_the_daemon_leaves_only_its_files(own_node: Node) -> None:
    """A daemon that is stopped with no pods has no process, mount, cgroup or namespace left."""
    daemon: Daemon = own_node.daemon
    daemon.cri.remove_all_pods()
    daemon.stop()
    after = daemon.footprint()
    assert not after.processes
    assert not [mount for mount in after.mounts if str(daemon.directory) in mount]
    daemon.start()
