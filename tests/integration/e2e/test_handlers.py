"""Several runtimes in one configuration, each with its own policy, and what the configuration gives every container."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry

pytestmark = pytest.mark.root

DEVICES = "devices.crio.io"


@pytest.fixture(scope="module")
def two(registry: LocalRegistry, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A daemon with the runtimes `open` and `closed`, both runc."""
    profiles = tmp_path_factory.mktemp("profiles")
    for name, calls in (("open", ["mkdir", "mkdirat"]), ("all", ["chmod", "fchmodat", "fchmodat2"])):
        rules = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": calls, "action": "SCMP_ACT_ERRNO"}]}
        (profiles / f"{name}.json").write_text(json.dumps(rules))
    runtimes: dict[str, dict[str, Any]] = {
        "open": {
            "runtime_path": "runc",
            "allowed_annotations": ["io.example.*", DEVICES],
            "privileged_without_host_devices": True,
            "container_min_memory": "12MiB",
            "seccomp_profile": str(profiles / "open.json"),
        },
        "closed": {"runtime_path": "runc"},
    }
    settings = Settings(
        default_runtime="closed",
        runtimes=runtimes,
        registries_conf=registry.registries_conf(),
        runtime={
            "default_env": ["GIVEN=by the node"],
            "default_ulimits": ["nofile=512:1024"],
            "default_sysctls": ["net.ipv4.ip_unprivileged_port_start=81"],
            "default_capabilities": ["CHOWN"],
            "additional_devices": ["/dev/null:/dev/nothing:rw"],
            "allowed_devices": ["/dev/full"],
            "seccomp_profile": str(profiles / "all.json"),
        },
    )
    with Daemon(settings) as daemon:
        yield Node(daemon, daemon.cri.pull(image))
        daemon.cri.remove_all_pods()


def spec(node: Node, container: str) -> dict[str, Any]:
    """Return the container's config.json."""
    answer = node.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
    found: dict[str, Any] = json.loads(answer.info["info"])["runtimeSpec"]
    return found


def test_annotations_reach_the_runtime_only_by_list(two: Node) -> None:
    """And the seccomp program never does: it would replace the profile."""
    asked = {"io.example.a": "1", "run.oci.seccomp_bpf_data": "AAAA", "other": "x"}
    seen = {
        handler: spec(two, two.pod(handler=handler, annotations=asked).create("true"))["annotations"]
        for handler in ("open", "closed")
    }
    assert seen["open"]["io.example.a"] == "1"
    assert seen["open"].get("run.oci.seccomp_bpf_data") != "AAAA"
    assert "other" not in seen["open"]
    assert not asked.keys() & (seen["closed"].keys() - {"run.oci.seccomp_bpf_data"})


def test_devices_by_annotation(two: Node) -> None:
    """Where the handler allows the annotation and the configuration the device."""
    pod = two.pod(handler="open", annotations={DEVICES: "/dev/full:/dev/mine:rw"})
    assert pod.printed("sh", "-c", "ls /dev/mine /dev/nothing") == "/dev/mine\n/dev/nothing"
    config = two.pod_config(annotations={DEVICES: "/dev/zero"})
    other = two.cri.run_pod(config, handler="open")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "/dev/zero", "allowed_devices"):
        two.cri.create(other, two.container_config("true"), config)


def test_what_the_configuration_gives(two: Node) -> None:
    """Environment, resource limits, sysctls and capabilities."""
    script = (
        "echo $GIVEN; ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; grep CapBnd /proc/self/status"
    )
    lines = two.pod().printed("sh", "-c", script).split("\n")
    assert lines[:4] == ["by the node", "512", "1024", "81"]
    assert int(lines[4].split()[1], 16) == 1


def test_privileged_without_the_hosts_devices(two: Node) -> None:
    """Per handler: the other one gives them."""
    privileged = cri.LinuxContainerSecurityContext(privileged=True)
    script = "test -e /dev/kmsg && echo there || echo not there"
    found = {
        handler: two.pod(handler=handler, privileged=True).printed("sh", "-c", script, security=privileged)
        for handler in ("open", "closed")
    }
    assert found == {"open": "not there", "closed": "there"}


def test_the_default_seccomp_profile_is_the_handlers_own(two: Node) -> None:
    """Before the one of all handlers; and only where the container asks for the default."""
    script = "mkdir /tmp/a 2>/dev/null && echo made; touch /tmp/b; chmod 600 /tmp/b 2>/dev/null && echo changed; true"
    found = {handler: two.pod(handler=handler).printed("sh", "-c", script) for handler in ("open", "closed")}
    assert found == {"open": "changed", "closed": "made"}
    unconfined = cri.LinuxContainerSecurityContext(
        namespace_options=namespaces(), seccomp=cri.SecurityProfile(profile_type=cri.SecurityProfile.Unconfined)
    )
    assert two.pod(handler="open").printed("sh", "-c", script, security=unconfined) == "made\nchanged"


def test_the_least_memory(two: Node) -> None:
    """Refused before anything is made."""
    config = two.pod_config()
    pod = two.cri.run_pod(config, handler="open")
    tiny = cri.LinuxContainerResources(memory_limit_in_bytes=4096)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "memory_limit_in_bytes"):
        two.cri.create(pod, two.container_config("true", resources=tiny), config)


def test_device_rules(two: Node) -> None:
    """A node that a container makes itself opens only if a device of that number was given."""
    security = cri.LinuxContainerSecurityContext(capabilities=cri.Capability(add_capabilities=["MKNOD", "SYSLOG"]))
    config = two.container_config("sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 0 /tmp/kmsg", security=security)
    pod_config = two.pod_config()
    pod = two.cri.run_pod(pod_config)
    denied = two.cri.run(pod, config, pod_config)
    assert two.cri.wait_exited(denied).exit_code != 0
    given = two.container_config("sh", "-c", "head -c 0 /dev/kmsg", security=security)
    given.devices.add(host_path="/dev/kmsg", container_path="/dev/kmsg", permissions="r")
    assert two.cri.wait_exited(two.cri.run(pod, given, pod_config)).exit_code == 0


def test_device_rules_outlive_an_update(node: Node) -> None:
    """What was given stays, what was not stays closed: an update once opened all devices, or closed them, with systemd."""
    security = cri.LinuxContainerSecurityContext(capabilities=cri.Capability(add_capabilities=["MKNOD", "SYSLOG"]))
    config = node.container_config("sleep", "1000000", security=security)
    config.devices.add(host_path="/dev/full", container_path="/dev/given", permissions="rw")
    pod_config = node.pod_config()
    container = node.cri.run(node.cri.run_pod(pod_config), config, pod_config)
    script = (
        "head -c 1 /dev/given | wc -c; head -c 1 /dev/zero | wc -c;"
        " rm -f /tmp/kmsg; mknod /tmp/kmsg c 1 11; head -c 0 /tmp/kmsg 2>/dev/null && echo open || echo closed"
    )
    expected = "1\n1\nclosed"
    assert node.cri.output(container, "sh", "-c", script) == expected
    new = cri.LinuxContainerResources(memory_limit_in_bytes=96 << 20, cpu_shares=512)
    node.cri.runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=container, linux=new))
    assert node.cri.output(container, "sh", "-c", script) == expected


def test_a_privileged_container_opens_every_device_also_after_an_update(node: Node) -> None:
    """Nodes that it makes itself, too."""
    config = node.pod_config(privileged=True)
    security = cri.LinuxContainerSecurityContext(privileged=True)
    asked = node.container_config("sleep", "1000000", security=security)
    container = node.cri.run(node.cri.run_pod(config), asked, config)
    script = "rm -f /tmp/kmsg; mknod /tmp/kmsg c 1 11 && head -c 0 /tmp/kmsg && head -c 0 /dev/kmsg && echo open"
    assert node.cri.output(container, "sh", "-c", script) == "open"
    new = cri.LinuxContainerResources(memory_limit_in_bytes=96 << 20)
    node.cri.runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=container, linux=new))
    assert node.cri.output(container, "sh", "-c", script) == "open"
