"""The systemd cgroup driver: what crid itself asks systemd for. Everything else the other tests show, below systemd too."""

import contextlib
import json
import subprocess
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from crid.lifecycle.cgroups import own_name
from tests.harness import configs, footprint
from tests.harness.cgroups import ROOT, UNIFIED, memory_limit
from tests.harness.client import refused
from tests.harness.daemon import SYSTEMD, Daemon, Settings
from tests.harness.node import Node, Pod

pytestmark = pytest.mark.root
by_systemd = pytest.mark.skipif(not SYSTEMD, reason="no systemd here; scripts/in-systemd runs one")

MIB = 1 << 20


def systemctl(*words: str) -> str:
    """Run systemctl and return what it prints."""
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout.strip()


def units(pod: Pod) -> str:
    """The slices and scopes that bear the pod's id."""
    return systemctl("list-units", "--all", "--plain", "--no-legend", "--type=slice,scope", f"*{pod.id}*")


def own_pod(node: Node, **limits: Any) -> Pod:
    """Run a pod whose client names no parent, and which shares a PID namespace."""
    config = node.pod_config(options=configs.namespaces(pid=cri.POD))
    config.linux.cgroup_parent = ""
    config.linux.resources.CopyFrom(cri.LinuxContainerResources(**limits))
    return Pod(node, node.cri.run_pod(config), config)


@pytest.mark.skipif(SYSTEMD, reason="systemd is here")
def test_without_systemd_the_daemon_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    """At once and by the key, not with the first pod."""
    with pytest.raises(AssertionError, match="ended with"), Daemon(Settings(runtime={"cgroup_manager": "systemd"})):
        pass
    assert "crid.runtime.cgroup_manager: systemd" in capfd.readouterr().err


@by_systemd
def test_a_slice_of_its_own_lives_as_long_as_the_pod(node: Node) -> None:
    """With the scopes in it; and systemd, told of the limits, does not undo them."""
    pod = own_pod(node, memory_limit_in_bytes=64 * MIB, cpu_quota=50000, cpu_period=100000)
    above = own_name(node.daemon.run_root)
    name = f"{above}-{pod.id}.slice"
    path = f"/{above}.slice/{name}"
    pod.sleeper()
    assert {line.split()[0] for line in units(pod).splitlines()} == {name, f"crid-pause-{pod.id}.scope"}
    assert systemctl("show", "-P", "CPUQuotaPerSecUSec", name) == "500ms"
    assert systemctl("show", "-P", "MemoryMax" if UNIFIED else "MemoryLimit", name) == str(64 * MIB)
    systemctl("daemon-reload")
    pod.sleeper(resources=cri.LinuxContainerResources(memory_limit_in_bytes=32 * MIB))
    assert memory_limit(path) == str(64 * MIB)
    node.cri.remove_pod(pod.id)
    assert units(pod) == ""
    assert not [path for path in footprint.cgroups("/") if path.endswith(f"/{name}")]


@by_systemd
def test_the_first_container_of_a_slice_has_its_device_rules(node: Node) -> None:
    """On cgroup v1 systemd moves processes into a slice's own cgroup, where every device is open, when it first needs one."""
    security = cri.LinuxContainerSecurityContext(capabilities=cri.Capability(add_capabilities=["MKNOD", "SYSLOG"]))
    top = node.daemon.cgroup.replace(".slice", "_devices")
    config = node.pod_config()
    config.linux.cgroup_parent = f"{top}-a-b.slice"
    script = "rm -f /tmp/kmsg; mknod /tmp/kmsg c 1 11; head -c 0 /tmp/kmsg 2>/dev/null && echo open || echo closed"
    with contextlib.ExitStack() as undo:
        undo.callback(systemctl, "stop", f"{top}.slice")
        pod = Pod(node, node.cri.run_pod(config), config)
        undo.callback(node.cri.remove_pod, pod.id)
        containers = [pod.sleeper(security=security) for _ in range(2)]
        systemctl("daemon-reload")
        assert [node.cri.output(each, "sh", "-c", script) for each in containers] == ["closed", "closed"]


@by_systemd
def test_new_limits_are_all_or_none(node: Node) -> None:
    """What the kernel refuses systemd forgets."""
    pod = own_pod(node, memory_limit_in_bytes=64 * MIB)
    above = own_name(node.daemon.run_root)
    name = f"{above}-{pod.id}.slice"
    properties = ("show", "-p", "MemoryMax", "-p", "MemoryLimit", "-p", "CPUWeight", "-p", "CPUShares", name)
    before = systemctl(*properties)
    impossible = cri.LinuxContainerResources(memory_limit_in_bytes=96 * MIB, cpu_shares=512)
    request = cri.UpdatePodSandboxResourcesRequest(pod_sandbox_id=pod.id, resources=impossible)
    with contextlib.ExitStack() as undo:
        if UNIFIED:
            request.resources.unified["memory.high"] = "much"
        else:  # CPUs that the slice above does not have
            slice_above = ROOT / "cpuset" / f"{above}.slice"
            request.resources.cpuset_cpus = (slice_above / "cpuset.cpus").read_text().strip()
            undo.callback((slice_above / "cpuset.cpus").write_text, request.resources.cpuset_cpus)
            for directory in (slice_above / name, slice_above):
                (directory / "cpuset.cpus").write_text("0")
        code = grpc.StatusCode.INVALID_ARGUMENT if UNIFIED else grpc.StatusCode.UNAVAILABLE
        with refused(code, "cannot be limited"):
            node.cri.runtime.UpdatePodSandboxResources(request)
    assert systemctl(*properties) == before
    assert memory_limit(f"/{above}.slice/{name}") == str(64 * MIB)
    answer = node.cri.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True))
    assert json.loads(answer.info["info"]).get("resources", {}).get("memory_limit_in_bytes") in (None, str(64 * MIB))


@by_systemd
def test_a_stopped_pod_leaves_no_pause_scope(node: Node) -> None:
    """It would stand in the way of the pod's slice."""
    pod = node.pod(options=configs.namespaces(pid=cri.POD))
    assert f"crid-pause-{pod.id}.scope" in units(pod)
    node.cri.stop_pod(pod.id)
    assert units(pod) == ""
