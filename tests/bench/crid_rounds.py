"""What is measured of crid: one pod's life RPC by RPC, many pods at once, pulls, memory, and the time until it serves."""

import time
from collections.abc import Callable
from pathlib import Path

from crid.cri import api_pb2 as cri
from tests.bench.floor import SETTLE
from tests.harness.configs import namespaces
from tests.harness.node import Node


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that `action` takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def pod_round(node: Node) -> dict[str, float]:
    """Take one pod with one container from creation to removal and return the seconds of each RPC as the client sees them."""
    client = node.cri
    config = node.pod_config()
    container_config = node.container_config("sleep", "1000000")
    pod = container = ""

    def run_pod() -> None:
        nonlocal pod
        pod = client.run_pod(config)

    def create() -> None:
        nonlocal container
        container = client.create(pod, container_config, config)

    times = {
        "RunPodSandbox": timed(run_pod),
        "CreateContainer": timed(create),
        "StartContainer": timed(lambda: client.start(container)),
    }
    time.sleep(SETTLE)
    for step in ("ExecSync", "ExecSync again at once"):
        times[step] = timed(lambda: client.exec(container, ["/bin/true"]))
    return times | {
        "StopContainer": timed(lambda: client.stop(container)),
        "RemoveContainer": timed(lambda: client.remove(container)),
        "StopPodSandbox": timed(lambda: client.stop_pod(pod)),
        "RemovePodSandbox": timed(lambda: client.remove_pod(pod)),
    }


def host_network_round(node: Node) -> dict[str, float]:
    """Return the seconds of RunPodSandbox for a pod in the host's network: the ordinary pod's without its network."""
    config = node.pod_config(options=namespaces(network=cri.NODE))
    pod = ""

    def run_pod() -> None:
        nonlocal pod
        pod = node.cri.run_pod(config)

    times = {"RunPodSandbox, host network": timed(run_pod)}
    node.cri.remove_pod(pod)
    return times


def list_round(node: Node) -> dict[str, float]:
    """Return the seconds of each RPC that a kubelet polls."""
    runtime = node.cri.runtime
    return {
        "ListPodSandbox": timed(lambda: runtime.ListPodSandbox(cri.ListPodSandboxRequest())),
        "ListContainers": timed(lambda: runtime.ListContainers(cri.ListContainersRequest())),
        "ListContainerStats": timed(lambda: runtime.ListContainerStats(cri.ListContainerStatsRequest())),
        "ListPodSandboxStats": timed(lambda: runtime.ListPodSandboxStats(cri.ListPodSandboxStatsRequest())),
    }


def pull_round(node: Node, reference: str) -> float:
    """Return the seconds of a pull of an image that is not there; no container may use it."""
    node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=reference)))
    return timed(lambda: node.cri.pull(reference))


def proportional_set_size(pid: int) -> float:
    """Return a process's PSS in MiB: its own memory, and its share of what it shares (proc_pid_smaps(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no PSS")


def monitors(node: Node) -> list[int]:
    """Return the pids of the daemon's container monitors."""
    lines = (line.split() for line in node.daemon.footprint().processes)
    return [int(words[0]) for words in lines if len(words) > 1 and Path(words[1]).name == "conmon"]
