"""What the kubelet would serve at /metrics/cadvisor: descriptions, samples of real containers."""

from crid.cri import api_pb2 as cri
from tests.harness.node import Node
from tests.harness.tools import eventually

NEEDS_V2 = "container_pressure_"
NEEDS_DEVICE = ("container_fs_reads", "container_fs_writes", "container_blkio", "container_hugetlb")


def read(node: Node, pod: str) -> cri.PodSandboxMetrics:
    answer = node.cri.runtime.ListPodSandboxMetrics(cri.ListPodSandboxMetricsRequest())
    (found,) = (item for item in answer.pod_metrics if item.pod_sandbox_id == pod)
    return found


def value(samples: cri.ContainerMetrics | cri.PodSandboxMetrics, name: str) -> int:
    return next(sample.value.value for sample in samples.metrics if sample.name == name)


def test_every_series_is_described_and_sampled(node: Node) -> None:
    """Each but those that hang on the host has a sample; labels are as many as described."""
    pod = node.pod()
    limits = cri.LinuxContainerResources(
        cpu_period=100000, cpu_quota=50000, cpu_shares=512, memory_limit_in_bytes=64 << 20, memory_swap_limit_in_bytes=64 << 20
    )
    container = pod.run("sleep", "3600", resources=limits)
    described = node.cri.runtime.ListMetricDescriptors(cri.ListMetricDescriptorsRequest()).descriptors
    keys = {item.name: list(item.label_keys) for item in described}
    assert len(keys) == len(described) == 56

    def settled() -> bool:
        """Whether its layer has been measured, and what was the OCI runtime, which may have threads, is the program."""
        (own,) = read(node, pod.id).container_metrics
        names = {sample.name for sample in own.metrics}
        return "container_fs_usage_bytes" in names and value(own, "container_threads") == 1

    eventually(settled, "every figure is there, and is the program's")
    metrics = read(node, pod.id)
    assert [item.container_id for item in metrics.container_metrics] == [container]
    samples = [*metrics.metrics, *metrics.container_metrics[0].metrics]
    for sample in samples:
        assert len(sample.label_values) == len(keys[sample.name])
    missing = keys.keys() - {sample.name for sample in samples}
    assert {name for name in missing if not name.startswith((NEEDS_V2, *NEEDS_DEVICE))} == set()
    own = metrics.container_metrics[0]
    assert value(own, "container_spec_cpu_quota") == 50000
    assert value(own, "container_spec_memory_limit_bytes") == 64 << 20
    assert value(own, "container_processes") == value(own, "container_threads") == 1
    assert value(own, "container_start_time_seconds") == node.cri.status(container).started_at // 1_000_000_000


def test_figures_follow_what_the_container_does(node: Node) -> None:
    """Processes, open files, faults, memory and the network are those of this very container."""
    pod = node.pod()
    container = pod.run("sh", "-c", "exec 5</dev/null 6</dev/null; sleep 3600 & sleep 3600 & while :; do :; done")

    def own() -> cri.ContainerMetrics:
        return read(node, pod.id).container_metrics[0]

    assert own().container_id == container
    eventually(lambda: value(own(), "container_processes") == 3, "the shell and its children are counted")
    assert value(own(), "container_file_descriptors") >= 6
    eventually(lambda: value(own(), "container_cpu_usage_seconds_total") >= 1, "seconds of CPU time are counted")
    eventually(lambda: value(own(), "container_memory_rss") > 0, "the kernel has added up its counters")
    figures = own()
    assert value(figures, "container_memory_max_usage_bytes") >= value(figures, "container_memory_rss")
    before = value(read(node, pod.id), "container_network_transmit_packets_total")
    node.cri.output(container, "sh", "-c", "ping -c 1 -W 1 10.255.255.254 >/dev/null 2>&1 || true")
    eventually(
        lambda: value(read(node, pod.id), "container_network_transmit_packets_total") > before, "packets sent are counted"
    )


def test_stopped_pods_have_none(node: Node) -> None:
    pod = node.pod()
    pod.sleeper()
    node.cri.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod.id))
    answer = node.cri.runtime.ListPodSandboxMetrics(cri.ListPodSandboxMetricsRequest())
    assert pod.id not in {item.pod_sandbox_id for item in answer.pod_metrics}
