"""Options that contradict each other or the machine: refused with the field's name, and nothing of them is left."""

from collections.abc import Callable

import grpc
import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.node import Node

INVALID, MISSING, CONDITION = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
SECURITY = "linux { security_context { %s } }"
RESOURCES = "linux { resources { %s } }"

CONTAINERS = [
    ("mounts { container_path: '/m' host_path: '/tmp' recursive_read_only: true }", INVALID, "mounts[0].recursive_read_only"),
    (
        "mounts { container_path: '/m' host_path: '/tmp' readonly: true recursive_read_only: true "
        "propagation: PROPAGATION_HOST_TO_CONTAINER }",
        INVALID,
        "mounts[0].recursive_read_only",
    ),
    ("mounts { container_path: 'm' host_path: '/tmp' }", INVALID, "mounts[0].container_path"),
    ("mounts { container_path: '/m' host_path: 'tmp' }", INVALID, "mounts[0].host_path"),
    ("mounts { container_path: '/m' host_path: '/dev/null/x' }", INVALID, "/dev/null/x"),
    ("mounts { container_path: '/m' host_path: '/tmp' mount_options: 'exec' }", INVALID, "mounts[0].mount_options"),
    ("mounts { container_path: '/m' host_path: '/tmp' uidMappings { length: 5 } }", INVALID, "mounts[0].uidMappings"),
    ("devices { host_path: '/dev/no-such-device' }", INVALID, "/dev/no-such-device"),
    ("devices { host_path: '/dev/null' permissions: 'x' }", INVALID, "devices[0].permissions"),
    ("envs { key: 'A=B' value: 'c' }", INVALID, "envs[0].key"),
    ("working_dir: 'relative'", INVALID, "working_dir"),
    ("log_path: '../../outside.log'", INVALID, "log_path"),
    (SECURITY % "run_as_group { value: 5 }", INVALID, "run_as_group"),
    (SECURITY % "run_as_user { value: -1 }", INVALID, "run_as_user"),
    (SECURITY % "run_as_user { value: 5 } run_as_username: 'app'", INVALID, "run_as_user"),
    (SECURITY % "supplemental_groups: -5", INVALID, "supplemental_groups[0]"),
    (SECURITY % "supplemental_groups_policy: 7", INVALID, "supplemental_groups_policy"),
    (SECURITY % "capabilities { add_capabilities: 'FLY' }", INVALID, "add_capabilities"),
    (SECURITY % "seccomp { profile_type: Localhost localhost_ref: '/no/such/profile.json' }", INVALID, "/no/such/profile.json"),
    (SECURITY % "masked_paths: 'proc/x'", INVALID, "masked_paths"),
    (SECURITY % "privileged: true", INVALID, "privileged"),
    (SECURITY % "namespace_options { pid: TARGET target_id: 'nobody' }", MISSING, "nobody"),
    (
        SECURITY % "namespace_options { pid: CONTAINER userns_options { uids { length: 9 } gids { length: 9 } } }",
        INVALID,
        "userns_options",
    ),
    (RESOURCES % "oom_score_adj: 1001", INVALID, "oom_score_adj"),
    (RESOURCES % "memory_limit_in_bytes: -2", INVALID, "memory_limit_in_bytes"),
    (RESOURCES % "cpu_period: -1", INVALID, "cpu_period"),
    (RESOURCES % "cpu_quota: -2", INVALID, "cpu_quota"),
    (RESOURCES % "cpu_shares: -1", INVALID, "cpu_shares"),
    (RESOURCES % "cpuset_cpus: 'zero'", INVALID, "cpuset_cpus"),
]

PODS = [
    ("linux { sysctls { key: 'vm.swappiness' value: '1' } }", "vm.swappiness"),
    (
        "linux { sysctls { key: 'net.ipv4.ip_forward' value: '1' } security_context { namespace_options { network: NODE } } }",
        "net.ipv4.ip_forward",
    ),
    (
        "linux { sysctls { key: 'kernel.msgmax' value: '1' } security_context { namespace_options { ipc: NODE } } }",
        "kernel.msgmax",
    ),
    (SECURITY % "namespace_options { network: CONTAINER }", "namespace_options.network"),
    (SECURITY % "namespace_options { ipc: CONTAINER }", "namespace_options.ipc"),
    (SECURITY % "namespace_options { pid: TARGET }", "namespace_options.pid"),
    (r"hostname: 'two\nlines'", "hostname"),
    ("linux { cgroup_parent: '../../outside' }", "cgroup parent"),
    ("port_mappings { host_port: 70000 container_port: 80 }", "port_mappings"),
]


def text_of(case: tuple[object, ...]) -> str:
    return str(case[-1])


@pytest.mark.parametrize(("text", "code", "words"), CONTAINERS, ids=map(text_of, CONTAINERS))
def test_a_container(node: Node, text: str, code: grpc.StatusCode, words: str) -> None:
    """No container, no directory, no log; and the same pod takes a sound one of that name."""
    pod = node.pod()
    config = node.container_config("echo", "sound", name="same")
    wrong = cri.ContainerConfig()
    wrong.CopyFrom(config)
    text_format.Merge(text, wrong)
    with refused(code, words):
        node.cri.create(pod.id, wrong, pod.config)
    assert node.cri.containers() == []
    assert list((node.daemon.run_root / "containers").iterdir()) == []
    assert pod.printed("echo", "sound", name="same") == "sound"


@pytest.mark.parametrize(("text", "words"), PODS, ids=map(text_of, PODS))
def test_a_pod(node: Node, text: str, words: str) -> None:
    """No pod, no directory."""
    config = node.pod_config()
    text_format.Merge(text, config)
    with refused(INVALID, words):
        node.cri.run_pod(config)
    assert node.cri.pods() == []
    assert list((node.daemon.run_root / "pods").iterdir()) == []


UPDATES: list[Callable[[], cri.LinuxContainerResources]] = [
    lambda: cri.LinuxContainerResources(memory_limit_in_bytes=-5),
    lambda: cri.LinuxContainerResources(cpu_shares=77, cpuset_cpus="x"),
]


@pytest.mark.parametrize("update", UPDATES)
def test_an_update_is_all_or_nothing(node: Node, update: Callable[[], cri.LinuxContainerResources]) -> None:
    """What is refused has changed nothing."""
    container = node.pod().sleeper(resources=cri.LinuxContainerResources(cpu_shares=512))
    request = cri.UpdateContainerResourcesRequest(container_id=container, linux=update())
    with refused(INVALID):
        node.cri.runtime.UpdateContainerResources(request)
    assert node.cri.status(container).resources.linux.cpu_shares == 512
