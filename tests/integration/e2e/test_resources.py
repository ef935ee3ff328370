"""Limits and accounting of containers and pods, in the kernel's own files, on cgroup v1 and v2."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cgroup import naming
from crid.cgroup.detect import detect
from crid.cri import api_pb2 as cri
from crid.lifecycle.cgroups import own_name
from tests.harness import cgroups, configs
from tests.harness.cgroups import UNIFIED, memory_limit, path_of, pid_of, read
from tests.harness.client import refused
from tests.harness.daemon import SYSTEMD
from tests.harness.node import Node, Pod

pytestmark = pytest.mark.root

MIB = 1 << 20
UNLIMITED = "9223372036854771712"
"""How cgroup v1 says that there is no limit: the largest whole number of pages."""


def limits(**fields: Any) -> cri.LinuxContainerResources:
    """Limits as the kubelet sends them: with a zero for each huge page size, whether or not the host has the controller."""
    pages = [cri.HugepageLimit(page_size=size, limit=0) for size in ("2MB", "1GB")]
    return cri.LinuxContainerResources(hugepage_limits=pages, **fields)


def update(node: Node, container: str, **fields: object) -> None:
    """UpdateContainerResources."""
    request = cri.UpdateContainerResourcesRequest(container_id=container, linux=limits(**fields))
    node.cri.runtime.UpdateContainerResources(request)


def test_every_limit_is_in_the_kernels_files(node: Node) -> None:
    """Shares, quota, cpuset, memory and swap; and they are what status tells."""
    asked = limits(
        cpu_shares=512,
        cpu_quota=20000,
        cpu_period=100000,
        cpuset_cpus="0",
        memory_limit_in_bytes=64 * MIB,
        memory_swap_limit_in_bytes=64 * MIB,
    )
    container = node.pod().sleeper(resources=asked)
    pid = pid_of(node, container)
    cpu, memory, cpuset = (path_of(pid, controller) for controller in ("cpu", "memory", "cpuset"))
    assert read(cpu, "cpu", v1="cpu.shares", v2="cpu.weight") == ("20" if UNIFIED else "512")
    assert read(cpu, "cpu", v1="cpu.cfs_quota_us", v2="cpu.max").split()[0] == "20000"
    assert read(cpuset, "cpuset", v1="cpuset.cpus", v2="cpuset.cpus") == "0"
    assert memory_limit(memory) == str(64 * MIB)
    assert node.cri.status(container).resources.linux == asked


def test_an_update_is_whole_or_not_at_all(node: Node) -> None:
    """The kernel refuses the one, after the runtime may have set the other: a CPU that the pod does not have, on v1; v2 would
    take that, but no text for a number."""
    pod = node.pod()
    container = pod.sleeper(resources=limits(memory_limit_in_bytes=64 * MIB, cpu_shares=512, cpuset_cpus="0"))
    memory = path_of(pid_of(node, container), "memory")
    wrong: dict[str, object] = {"unified": {"memory.high": "much"}}
    if not UNIFIED:
        parent = cgroups.ROOT / "cpuset" / naming.resolve(pod.config.linux.cgroup_parent)
        for file in sorted(parent.rglob("cpuset.cpus"), key=lambda path: -len(path.parts)):  # what is below first
            file.write_text("0")
        wrong = {"cpuset_cpus": "0-1"}
    with refused(grpc.StatusCode.INTERNAL):
        update(node, container, memory_limit_in_bytes=96 * MIB, **wrong)
    assert memory_limit(memory) == str(64 * MIB)
    assert node.cri.status(container).resources.linux.memory_limit_in_bytes == 64 * MIB
    update(node, container, memory_limit_in_bytes=96 * MIB, cpuset_cpus="0")
    assert memory_limit(memory) == str(96 * MIB)
    told = node.cri.status(container).resources.linux
    assert (told.memory_limit_in_bytes, told.cpuset_cpus, told.cpu_shares) == (96 * MIB, "0", 512)


def test_memory_in_use_is_not_taken_away(node: Node) -> None:
    """On v2 the kernel would set the limit, and kill the container for it."""
    script = "head -c 40000000 /dev/zero >/dev/shm/held; touch /ready; sleep 1000000"
    container = node.pod().run("sh", "-c", script, resources=limits(memory_limit_in_bytes=128 * MIB))
    node.cri.output(container, "sh", "-c", "while [ ! -e /ready ]; do sleep 0.05; done")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "memory_limit_in_bytes", "in use"):
        update(node, container, memory_limit_in_bytes=16 * MIB)
    assert node.cri.status(container).state == cri.CONTAINER_RUNNING


def test_a_low_oom_score_is_given_as_far_as_the_daemon_may(node: Node) -> None:
    """The kubelet asks for -997 for guaranteed pods; without CAP_SYS_RESOURCE the daemon's own score is the least."""
    container = node.pod().sleeper(resources=limits(oom_score_adj=-997))
    score = int(Path(f"/proc/{pid_of(node, container)}/oom_score_adj").read_text())
    own = int(Path(f"/proc/{node.daemon.pid}/oom_score_adj").read_text())
    if score != -997:
        assert score == own
        assert "CAP_SYS_RESOURCE" in node.daemon.log_text()


@pytest.mark.skipif(not UNIFIED, reason="this host has no cgroup v2")
def test_unified_keys(node: Node) -> None:
    """Any file of a controller, by its own name."""
    container = node.pod().sleeper(resources=limits(unified={"memory.high": str(48 * MIB)}))
    path = path_of(pid_of(node, container), "memory")
    assert read(path, "memory", v1="", v2="memory.high") == str(48 * MIB)


def test_out_of_memory_is_the_reason_every_time(node: Node) -> None:
    """Whoever reports the exit must not be ahead of whoever counts the kills. Only the first process may be the one."""
    pod = node.pod()
    small = limits(memory_limit_in_bytes=24 * MIB, memory_swap_limit_in_bytes=24 * MIB)
    for _ in range(3 if UNIFIED else 10):
        container = pod.run("sh", "-c", "exec tail /dev/zero", resources=small)
        status = node.cri.wait_exited(container)
        assert (status.reason, status.exit_code) == ("OOMKilled", 137)


def test_a_shared_pid_namespaces_init_is_accounted_to_the_pod(node: Node) -> None:
    """In a leaf of its own: on v2 a cgroup whose children have controllers takes no processes."""
    pod = node.pod(options=configs.namespaces(pid=cri.POD))
    answer = node.cri.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True))
    pause = json.loads(answer.info["info"])["pid"]
    parent = f"/{naming.resolve(pod.config.linux.cgroup_parent)}"
    leaf = path_of(pause, "memory")
    assert leaf == f"{parent}/crid-pause" + (f"-{pod.id}.scope" if SYSTEMD else "")
    security = cri.LinuxContainerSecurityContext(namespace_options=configs.namespaces(pid=cri.POD))
    container = pod.sleeper(security=security)
    assert path_of(pid_of(node, container), "memory").startswith(f"{parent}/crid-")
    stats = node.cri.runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats.linux
    assert stats.memory.working_set_bytes.value > 0
    node.cri.stop_pod(pod.id)
    assert not any((tree / leaf.strip("/")).exists() for tree in trees())


def trees() -> list[Path]:
    """Where cgroups are mounted."""
    return [path for path in (cgroups.ROOT, *cgroups.ROOT.iterdir()) if (path / "cgroup.procs").exists()]


def test_a_parent_in_which_nothing_could_start_is_refused(node: Node) -> None:
    """By the limit that the kernel has for it, before anything is made; with enough it is taken."""
    config = node.pod_config()
    directory = (cgroups.ROOT if UNIFIED else cgroups.ROOT / "memory") / naming.resolve(config.linux.cgroup_parent)
    hierarchy = detect()
    hierarchy.create(naming.resolve(config.linux.cgroup_parent))
    limit = directory / ("memory.max" if UNIFIED else "memory.limit_in_bytes")
    limit.write_text("409600")
    before = node.daemon.footprint()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "cgroup parent", "409600"):
        node.cri.run_pod(config)
    assert node.daemon.left_since(before) == {}
    limit.write_text(str(64 * MIB))
    assert Pod(node, node.cri.run_pod(config), config).printed("echo", "fits") == "fits"


def test_a_pods_own_cgroup_has_its_limits(node: Node) -> None:
    """Without a parent from the client crid makes one, limits it, and changes it when asked to."""
    config = node.pod_config()
    config.linux.cgroup_parent = ""
    config.linux.resources.memory_limit_in_bytes = 64 * MIB
    config.linux.overhead.memory_limit_in_bytes = 8 * MIB
    pod = Pod(node, node.cri.run_pod(config), config)
    name = own_name(node.daemon.run_root)
    path = f"/{name}.slice/{name}-{pod.id}.slice" if SYSTEMD else f"/{name}/{pod.id}"
    assert memory_limit(path) == str(72 * MIB)
    container = pod.sleeper()
    assert path_of(pid_of(node, container), "memory").startswith(path)
    new = cri.LinuxContainerResources(memory_limit_in_bytes=128 * MIB)
    request = cri.UpdatePodSandboxResourcesRequest(pod_sandbox_id=pod.id, resources=new)
    node.cri.runtime.UpdatePodSandboxResources(request)
    assert memory_limit(path) == str(136 * MIB)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "resources.cpu_quota"):
        node.cri.runtime.UpdatePodSandboxResources(
            cri.UpdatePodSandboxResourcesRequest(
                pod_sandbox_id=pod.id, resources=cri.LinuxContainerResources(cpu_quota=1, memory_limit_in_bytes=MIB)
            )
        )
    assert memory_limit(path) == str(136 * MIB)
    answer = node.cri.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True))
    assert json.loads(answer.info["info"])["resources"] == {"memory_limit_in_bytes": str(128 * MIB)}
    node.cri.remove_pod(pod.id)
    assert not any((tree / path.strip("/")).exists() for tree in trees())


@pytest.mark.parametrize(
    ("field", "value", "controller", "v1", "v2", "expected"),
    [
        ("cpu_shares", 1024, "cpu", "cpu.shares", "cpu.weight", "39" if UNIFIED else "1024"),
        ("cpu_quota", 30000, "cpu", "cpu.cfs_quota_us", "cpu.max", "30000 100000" if UNIFIED else "30000"),
        ("cpu_quota", -1, "cpu", "cpu.cfs_quota_us", "cpu.max", "max 100000" if UNIFIED else "-1"),
        ("cpu_period", 50000, "cpu", "cpu.cfs_period_us", "cpu.max", "20000 50000" if UNIFIED else "50000"),
        ("cpuset_cpus", "0", "cpuset", "cpuset.cpus", "cpuset.cpus", "0"),
        ("cpuset_mems", "0", "cpuset", "cpuset.mems", "cpuset.mems", "0"),
        ("memory_limit_in_bytes", 80 * MIB, "memory", "memory.limit_in_bytes", "memory.max", str(80 * MIB)),
        ("memory_limit_in_bytes", -1, "memory", "memory.limit_in_bytes", "memory.max", "max" if UNIFIED else UNLIMITED),
    ],
)
def test_each_limit_can_be_updated(
    node: Node, field: str, value: object, controller: str, v1: str, v2: str, expected: str
) -> None:
    """By itself; the others stay, and status tells the new one."""
    asked = limits(cpu_shares=512, cpu_quota=20000, cpu_period=100000, memory_limit_in_bytes=64 * MIB)
    container = node.pod().sleeper(resources=asked)
    path = path_of(pid_of(node, container), controller)
    update(node, container, **{field: value})
    assert read(path, controller, v1=v1, v2=v2) == expected
    told = node.cri.status(container).resources.linux
    assert getattr(told, field) == value
    others = {"cpu_shares", "cpu_quota", "cpu_period", "memory_limit_in_bytes"} - {field}
    assert {name: getattr(told, name) for name in others} == {name: getattr(asked, name) for name in others}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cpu_shares": -1}, "cpu_shares"),
        ({"cpu_quota": 999}, "cpu_quota"),
        ({"cpu_period": 999}, "cpu_period"),
        ({"cpuset_cpus": "x"}, "cpuset_cpus"),
        ({"cpuset_mems": "1-0"}, "cpuset_mems"),
        ({"memory_limit_in_bytes": -2}, "memory_limit_in_bytes"),
        ({"memory_limit_in_bytes": 4096}, "memory_limit_in_bytes"),
        ({"memory_swap_limit_in_bytes": 1}, "memory_swap_limit_in_bytes"),
        ({"oom_score_adj": 1001}, "oom_score_adj"),
        ({"unified": {"cgroup.freeze": "1"}}, "unified"),
    ],
)
def test_a_bad_limit_is_refused_by_name_and_changes_nothing(node: Node, fields: dict[str, object], named: str) -> None:
    """With a good one beside it."""
    container = node.pod().sleeper(resources=limits(cpu_shares=512))
    path = path_of(pid_of(node, container), "cpu")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, named):
        update(node, container, **{"cpu_shares": 256, **fields})
    assert read(path, "cpu", v1="cpu.shares", v2="cpu.weight") == ("20" if UNIFIED else "512")
    assert node.cri.status(container).resources.linux.cpu_shares == 512
