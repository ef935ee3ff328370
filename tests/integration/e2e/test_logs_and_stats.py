"""Log reopening as the kubelet's rotation does it, and the numbers of containers and pods."""

from pathlib import Path
from typing import Any

from crid.cri import api_pb2 as cri
from tests.harness.node import Node
from tests.harness.tools import eventually


def test_reopened_log_goes_on_in_a_new_file(node: Node) -> None:
    """Renaming the file and reopening loses no line: old file and new file together are everything."""
    pod = node.pod()
    container = pod.run("sh", "-c", "i=0; while [ ! -e /tmp/stop ]; do echo $i; i=$((i+1)); sleep 0.01; done")
    path = Path(node.cri.status(container).log_path)
    eventually(lambda: path.stat().st_size, "something is logged")
    old = path.rename(path.with_suffix(".old"))
    node.cri.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
    assert path.exists()
    eventually(lambda: path.stat().st_size, "the new file grows")
    node.cri.exec(container, ["touch", "/tmp/stop"])
    node.cri.wait_exited(container)
    numbers = [int(line.split()[3]) for file in (old, path) for line in file.read_text().splitlines()]
    assert numbers == list(range(len(numbers)))


def test_container_stats(node: Node) -> None:
    """CPU time grows, memory is used, the writable layer holds what was written."""
    pod = node.pod()
    container = pod.run("sh", "-c", "head -c 3000000 /dev/zero >/file; touch /tmp/done; while :; do :; done", labels={"a": "b"})
    node.cri.output(container, "sh", "-c", "while [ ! -e /tmp/done ]; do sleep 0.05; done")

    def read() -> cri.ContainerStats:
        return node.cri.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container)).stats

    first = read()
    assert first.attributes.id == container
    assert first.attributes.metadata == node.cri.status(container).metadata
    assert dict(first.attributes.labels)["a"] == "b"
    assert first.memory.working_set_bytes.value > 0
    eventually(lambda: read().cpu.usage_core_nano_seconds.value > first.cpu.usage_core_nano_seconds.value > 0, "CPU time grows")
    eventually(lambda: read().writable_layer.used_bytes.value >= 3000000, "the written file is counted")
    assert Path(first.writable_layer.fs_id.mountpoint).exists()


def test_stats_lists_and_filters(node: Node) -> None:
    """Only running containers are listed; filters select."""
    first, second = node.pod(), node.pod()
    running, other = first.sleeper(labels={"k": "1"}), second.sleeper(labels={"k": "2"})
    node.cri.wait_exited(first.run("true"))

    def listed(**selection: Any) -> set[str]:
        request = cri.ListContainerStatsRequest(filter=cri.ContainerStatsFilter(**selection))
        return {item.attributes.id for item in node.cri.runtime.ListContainerStats(request).stats}

    assert listed() == {running, other}
    assert listed(id=running) == {running}
    assert listed(pod_sandbox_id=second.id) == {other}
    assert listed(label_selector={"k": "2"}) == {other}
    pods = node.cri.runtime.ListPodSandboxStats(cri.ListPodSandboxStatsRequest()).stats
    assert {item.attributes.id for item in pods} == {first.id, second.id}


def test_pod_stats(node: Node) -> None:
    """The pod's cgroup, its network interface and its containers."""
    pod = node.pod()
    container = pod.sleeper()
    stats = node.cri.runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats
    assert stats.attributes.id == pod.id
    assert [item.attributes.id for item in stats.linux.containers] == [container]
    assert stats.linux.process.process_count.value >= 1
    assert stats.linux.memory.working_set_bytes.value > 0
    assert stats.linux.network.default_interface.name == "eth0"


def test_a_long_log_is_complete(node: Node) -> None:
    """Every line of a megabyte arrives: the container is never faster than its log."""
    pod = node.pod()
    container = pod.run("sh", "-c", "yes 0123456789 | head -n 100000")
    assert node.cri.wait_exited(container).exit_code == 0
    lines = pod.log(container)
    text = "".join(line.text + ("\n" if line.tag == "F" else "") for line in lines)
    assert text == "0123456789\n" * 100000
