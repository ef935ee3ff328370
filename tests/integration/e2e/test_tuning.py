"""Workloads, monitors' cgroups and CPU annotations, as the kernel's files tell of them."""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cgroup import naming
from crid.cri import api_pb2 as cri
from tests.harness import configs, footprint
from tests.harness.cgroups import ROOT, UNIFIED, path_of, pid_of, read
from tests.harness.client import refused
from tests.harness.daemon import SYSTEMD, Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually
from tests.integration.e2e.conftest import require_runtime

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(len(os.sched_getaffinity(0) & {0, 1}) < 2, reason="CPUs 0 and 1 are not both to be had"),
]

AFFINITY = Path("/proc/irq/default_smp_affinity")
LATENCY = Path("/sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us")


@pytest.fixture(scope="module", params=["crun", "runc"])
def tuned(
    request: pytest.FixtureRequest, registry: LocalRegistry, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Node:
    """A daemon that allows and places everything this is about."""
    require_runtime(request.param)
    directory = tmp_path_factory.mktemp("tuning")
    (directory / "irqbalance").write_text("# mine\n")
    handler = {
        "allowed_annotations": ["cpu-*", "irq-load-balancing.crio.io", "cgroup2-mount-hierarchy-rw.crio.io"],
        "monitor_exec_cgroup": "container",
        "exec_cpu_affinity": "first",
    }
    settings = Settings(
        default_runtime=request.param,
        runtimes={request.param: handler},
        registries_conf=registry.registries_conf(),
        runtime={
            "conmon_cgroup": "pod",
            "infra_ctr_cpuset": "0",
            "shared_cpuset": "0",
            "min_injected_gomaxprocs": 3,
            "irqbalance_config_file": str(directory / "irqbalance"),
            "workloads.management.activation_annotation": "target.example/management",
            "workloads.management.annotation_prefix": "resources.example",
            "workloads.management.resources.cpushares": 99,
        },
    )
    daemon = request.getfixturevalue("stack").enter_context(Daemon(settings))
    node = Node(daemon, daemon.cri.pull(image))
    node.pod().printed("true")
    node.clean()
    return node


@pytest.fixture(scope="module")
def stack() -> Iterator[contextlib.ExitStack]:
    """What ends with the module."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def node(tuned: Node) -> Iterator[Node]:
    """The node of the module; after the test nothing is left, and the host is as it was."""
    before, host = tuned.daemon.footprint(), (AFFINITY.read_text(), LATENCY.read_text())
    yield tuned
    tuned.clean()
    assert tuned.daemon.left_since(before) == {}
    eventually(lambda: (AFFINITY.read_text(), LATENCY.read_text()) == host, "the host is as it was")


def own_cpus(**fields: Any) -> cri.LinuxContainerResources:
    """Whole CPUs of its own, as the kubelet's static CPU manager gives them."""
    given = {"cpu_shares": 1024, "cpuset_cpus": "1", **fields}
    return cri.LinuxContainerResources(**given)


def info(node: Node, container: str) -> dict[str, int]:
    """The verbose status."""
    answer = node.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
    found: dict[str, int] = json.loads(answer.info["info"])
    return found


def quota(path: str) -> str:
    """A cgroup's CPU quota."""
    return read(path, "cpu", v1="cpu.cfs_quota_us", v2="cpu.max").split()[0]


def test_a_monitor_in_the_pods_cgroup(node: Node) -> None:
    """A leaf beside the container's, on the CPUs for such things, and gone with the container."""
    pod = node.pod()
    container = pod.sleeper()
    parent = f"/{naming.resolve(pod.config.linux.cgroup_parent)}"
    path = path_of(info(node, container)["monitorPid"], "memory")
    assert path.startswith(parent)
    assert path.endswith(f"/crid-conmon-{container}{'.scope' if SYSTEMD else ''}")
    assert path_of(pid_of(node, container), "memory").startswith(f"{parent}/crid-{container}")
    if UNIFIED or not SYSTEMD:  # on v1 systemd knows of no cpusets
        assert read(path, "cpuset", v1="cpuset.cpus", v2="cpuset.cpus") == "0"
    node.cri.remove(container)
    assert not [path for path in footprint.cgroups("/") if f"/crid-conmon-{container}" in path]


@pytest.mark.skipif(not SYSTEMD, reason="no systemd here; scripts/in-systemd runs one")
def test_a_shutdown_stops_containers_first(node: Node) -> None:
    """Then their monitors, then the daemon: units are stopped in the reverse of the order in which they come."""
    pod = node.pod()
    config = node.container_config("sleep", "1000000")
    config.annotations["io.kubernetes.pod.terminationGracePeriod"] = "40"
    container = node.cri.run(pod.id, config, pod.config)
    monitor, own = f"crid-conmon-{container}.scope", f"crid-{container}.scope"
    assert shown(monitor, "KillSignal") == "13"
    assert "crid.service" in shown(monitor, "After").split()
    assert {"crid.service", monitor} <= set(shown(own, "After").split())
    assert shown(own, "TimeoutStopUSec") == "40s"
    node.cri.remove(container)
    eventually(lambda: shown(monitor, "LoadState") == "not-found", "the monitor's scope is gone")


def shown(unit: str, name: str) -> str:
    """A property of a systemd unit."""
    return subprocess.run(["systemctl", "show", "-P", name, unit], check=True, capture_output=True, text=True).stdout.strip()


def test_a_creation_that_fails_leaves_no_monitors_cgroup(node: Node) -> None:
    pod = node.pod()
    with refused(grpc.StatusCode.INTERNAL):
        node.cri.create(pod.id, node.container_config("true", working_dir="/proc/self/mem/x"), pod.config)
    assert not [path for path in footprint.cgroups(node.daemon.cgroup) if "/crid-conmon-" in path]


def test_a_commands_monitor_in_the_containers_cgroup(node: Node) -> None:
    """The command ends when the test has seen where its monitor is."""
    container = node.pod().sleeper()
    own = path_of(pid_of(node, container), "memory")
    tree = ROOT if UNIFIED else ROOT / "memory"
    running = threading.Thread(target=node.cri.exec, args=(container, ["sh", "-c", "until [ -e /seen ]; do sleep 0.05; done"]))
    running.start()
    try:
        procs = tree / own.lstrip("/") / "cgroup.procs"
        eventually(lambda: "conmon" in {_name(pid) for pid in procs.read_text().split()}, "the monitor is there")
    finally:
        node.cri.output(container, "touch", "/seen")
        running.join(60)
    assert node.cri.output(container, "echo", "well") == "well"


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_commands_begin_on_the_first_cpu(node: Node) -> None:
    """Of a container with CPUs of its own; others' begin anywhere."""
    asks = ("grep", "Cpus_allowed_list", "/proc/self/status")
    pod = node.pod()
    own = pod.sleeper(resources=own_cpus(cpuset_cpus="0-1"))
    assert node.cri.output(own, *asks).split()[1] == "0"
    assert node.cri.output(pod.sleeper(), *asks).split()[1] != "0"


def test_the_pods_own_processes_keep_to_their_cpus(node: Node) -> None:
    pod = node.pod(options=configs.namespaces(pid=cri.POD))
    answer = node.cri.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True))
    assert os.sched_getaffinity(json.loads(answer.info["info"])["pid"]) == {0}


def test_a_workload(node: Node) -> None:
    """Its limits are in force, are reported, and survive an update of something else."""
    annotations = {"target.example/management": "", "resources.example/special": '{"cpushares": 200, "cpuset": "0"}'}
    pod = node.pod(annotations=annotations)
    usual = pod.sleeper(resources=cri.LinuxContainerResources(cpu_shares=512))
    assert read(path_of(pid_of(node, usual), "cpu"), "cpu", v1="cpu.shares", v2="cpu.weight") == ("4" if UNIFIED else "99")
    special = pod.sleeper(name="special", resources=cri.LinuxContainerResources(cpu_shares=512))
    request = cri.UpdateContainerResourcesRequest(
        container_id=special, linux=cri.LinuxContainerResources(memory_limit_in_bytes=1 << 26)
    )
    node.cri.runtime.UpdateContainerResources(request)
    told = node.cri.status(special).resources.linux
    assert (told.cpu_shares, told.cpuset_cpus, told.memory_limit_in_bytes) == (200, "0", 1 << 26)
    assert read(path_of(pid_of(node, special), "cpuset"), "cpuset", v1="cpuset.cpus", v2="cpuset.cpus") == "0"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "annotation resources.example/app"):
        bad = node.pod(annotations={**annotations, "resources.example/app": "{"})
        bad.create("true", name="app")


def test_no_quota(node: Node) -> None:
    """For the container and its pod, while it lives; an update does not bring it back."""
    config = node.pod_config(annotations={"cpu-quota.crio.io": "disable"})
    parent = naming.resolve(config.linux.cgroup_parent)
    pod = node.cri.run_pod(config)
    other = node.cri.run(pod, node.container_config("sleep", "1000000"), config)  # so that the pod's cgroup is there
    directory = (ROOT if UNIFIED else ROOT / "cpu") / parent
    (directory / ("cpu.max" if UNIFIED else "cpu.cfs_quota_us")).write_text("150000")
    asked = own_cpus(cpu_quota=100000, cpu_period=100000)
    container = node.cri.run(pod, node.container_config("sleep", "1000000", resources=asked), config)
    unlimited = "max" if UNIFIED else "-1"
    own = path_of(pid_of(node, container), "cpu")
    assert (quota(own), quota(parent)) == (unlimited, unlimited)
    request = cri.UpdateContainerResourcesRequest(container_id=container, linux=cri.LinuxContainerResources(cpuset_cpus="0"))
    node.cri.runtime.UpdateContainerResources(request)
    assert (quota(own), quota(parent)) == (unlimited, unlimited)
    assert node.cri.status(container).resources.linux.cpu_quota == 100000
    for item in (container, other):
        node.cri.stop(item)
    eventually(lambda: quota(parent) == "150000", "the pod has its quota again")


def test_shared_cpus(node: Node) -> None:
    """Beside its own, with a quota for both, and told to the program."""
    pod = node.pod(annotations={"cpu-shared.crio.io/app": "enable"})
    asked = own_cpus(cpu_quota=100000, cpu_period=100000)
    container = pod.sleeper(name="app", resources=asked)
    pid = pid_of(node, container)
    assert read(path_of(pid, "cpuset"), "cpuset", v1="cpuset.cpus", v2="cpuset.cpus") == "0-1"
    assert quota(path_of(pid, "cpu")) == "200000"
    assert node.cri.output(container, "sh", "-c", "echo $OPENSHIFT_ISOLATED_CPUS $OPENSHIFT_SHARED_CPUS") == "1 0"
    assert node.cri.status(container).resources.linux == asked
    assert node.cri.output(container, "grep", "Cpus_allowed_list", "/proc/self/status").split()[1] == "0"


@pytest.mark.skipif(not UNIFIED, reason="cgroup v1 has no threaded cgroups")
def test_threads_on_own_cpus_beside_shared_ones(node: Node) -> None:
    """A container with shared CPUs has a cgroup for those threads that are to keep to its own, and moves them itself."""
    pod = node.pod(annotations={"cpu-shared.crio.io/app": "enable", "cgroup2-mount-hierarchy-rw.crio.io": "true"})
    container = pod.sleeper(name="app", resources=own_cpus())
    own = path_of(pid_of(node, container), "cpuset")
    assert read(own, "cpuset", v1="", v2="cpuset.cpus.effective") == "0-1"
    child = f"{own}/cgroup-child"
    assert read(child, "cpuset", v1="", v2="cgroup.type") == "threaded"
    assert read(child, "cpuset", v1="", v2="cpuset.cpus.effective") == "1"
    move = "echo $$ >/sys/fs/cgroup/cgroup-child/cgroup.threads; grep Cpus_allowed_list /proc/self/status"
    assert node.cri.output(container, "sh", "-c", move).split()[1] == "1"
    node.cri.stop(container)
    node.cri.remove(container)
    assert not (ROOT / own.strip("/")).exists()


def test_a_governor_that_the_cpu_does_not_have(node: Node) -> None:
    """The container is not started on a CPU that goes on as it likes; hosts without frequencies have none at all."""
    container = node.pod(annotations={"cpu-freq-governor.crio.io": "no_such"}).create("true", resources=own_cpus())
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "CPU 1 has no frequency governor no_such"):
        node.cri.start(container)
    assert node.cri.status(container).state == cri.CONTAINER_EXITED


def test_interrupts_and_sleep(node: Node) -> None:
    """The CPU serves no new interrupts and does not sleep, from the container's start to its end, or the daemon's next."""
    annotations = {"irq-load-balancing.crio.io": "disable", "cpu-c-states.crio.io": "disable"}
    container = node.pod(annotations=annotations).create("sleep", "1000000", resources=own_cpus())
    before = AFFINITY.read_text(), LATENCY.read_text().strip()
    node.cri.start(container)
    assert int(AFFINITY.read_text().replace(",", ""), 16) & 2 == 0
    assert LATENCY.read_text().strip() == "n/a"
    node.daemon.kill()
    kill_all(container)
    node.daemon.start()
    eventually(lambda: (AFFINITY.read_text(), LATENCY.read_text().strip()) == before, "it is set back")


def test_what_irqbalance_bans(node: Node) -> None:
    """The container's CPUs, too, while it lives; before, and after a reboot, what the administrator says."""
    kept = node.daemon.root / "irqbalance-banned-cpus"
    configuration = Path(node.daemon.config.read_text().partition("irqbalance_config_file = ")[2].split('"')[1])
    configuration.write_text("IRQBALANCE_BANNED_CPUS=1\n# mine\n")
    pod = node.pod(annotations={"irq-load-balancing.crio.io": "disable"})
    container = pod.sleeper(resources=own_cpus())
    assert configuration.read_text() == 'IRQBALANCE_BANNED_CPUS="00000003"\n# mine\n'
    assert kept.read_text() == "0\n"
    node.cri.stop(container)
    eventually(lambda: configuration.read_text() == 'IRQBALANCE_BANNED_CPUS="00000001"\n# mine\n', "it is set back")
    eventually(lambda: not kept.exists(), "nothing is kept for the next start")

    affinity = AFFINITY.read_text()
    container = pod.sleeper(resources=own_cpus())
    assert "00000003" in configuration.read_text()
    node.daemon.kill()
    kill_all(container)
    (node.daemon.run_root / "tuning.json").unlink()  # a reboot empties the one and resets the other
    AFFINITY.write_text(affinity)
    node.daemon.start()
    eventually(lambda: configuration.read_text() == 'IRQBALANCE_BANNED_CPUS="00000001"\n# mine\n', "it is set back")
    eventually(lambda: not kept.exists(), "nothing is kept any more")


def kill_all(container: str) -> None:
    """Kill a container's processes, found by its cgroups: on v1 each is in several. While no daemon runs."""
    found = [Path(path, "cgroup.procs") for path in footprint.cgroups("/") if f"/crid-{container}" in path]
    pids = {int(pid) for procs in found for pid in procs.read_text().split()}
    assert pids
    for pid in pids:
        os.kill(pid, 9)


@pytest.mark.skipif(not UNIFIED, reason="cgroup v1 has no partitions")
@pytest.mark.parametrize("shared", [False, True])
def test_no_load_balancing_on_cgroup_v2(node: Node, shared: bool) -> None:
    """An isolated partition of the container's own CPUs, on a kernel that can have one below cgroups that are none."""
    annotations = {"cpu-load-balancing.crio.io": "disable", **({"cpu-shared.crio.io/app": "enable"} if shared else {})}
    container = node.pod(annotations=annotations).create("sleep", "1000000", name="app", resources=own_cpus())
    own = path_of(pid_of(node, container), "cpuset")
    if not (ROOT / own.strip("/") / "cpuset.cpus.exclusive").exists():
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "load balancing cannot be ended", "cpuset.cpus.exclusive"):
            node.cri.start(container)
        return
    node.cri.start(container)
    assert (ROOT / "cpuset.cpus.isolated").read_text().strip() == "1"
    assert read(own, "cpuset", v1="", v2="cpuset.cpus.effective") == ("0" if shared else "1")
    node.cri.stop(container)
    eventually(lambda: not (ROOT / "cpuset.cpus.isolated").read_text().strip(), "nothing is isolated any more")


@pytest.mark.skipif(UNIFIED, reason="cgroup v2 has partitions")
def test_no_load_balancing_on_cgroup_v1(node: Node) -> None:
    """It stays so when the container has ended: its CPUs may be somebody else's by then."""
    container = node.pod(annotations={"cpu-load-balancing.crio.io": "disable"}).sleeper(resources=own_cpus())
    own = path_of(pid_of(node, container), "cpuset")
    assert read(own, "cpuset", v1="cpuset.sched_load_balance", v2="") == "0"
    usual = node.pod().sleeper(resources=own_cpus())
    own = path_of(pid_of(node, usual), "cpuset")
    assert read(own, "cpuset", v1="cpuset.sched_load_balance", v2="") == "1"
    node.cri.stop(usual)
    eventually(lambda: read(own, "cpuset", v1="cpuset.sched_load_balance", v2="") == "0", "nothing balances any more")


def test_gomaxprocs(node: Node) -> None:
    config = node.pod_config()
    config.linux.cgroup_parent = f"{node.daemon.cgroup}/burstable-pod1"
    pod = node.cri.run_pod(config)
    asked = cri.LinuxContainerResources(cpu_shares=5000)
    container = node.cri.run(pod, node.container_config("sleep", "1000000", resources=asked), config)
    assert node.cri.output(container, "sh", "-c", "echo $GOMAXPROCS") == "10"


def test_too_little_memory_is_refused(node: Node) -> None:
    """Less than the runtime needs to start anything, by its own kind."""
    little = 400 << 10 if "crun" in runtime_of(node) else 11 << 20
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "memory_limit_in_bytes", "least"):
        node.pod().create("true", resources=cri.LinuxContainerResources(memory_limit_in_bytes=little))


def runtime_of(node: Node) -> str:
    """The configured runtime."""
    return node.daemon.config.read_text().partition("default_runtime = ")[2].split()[0]
