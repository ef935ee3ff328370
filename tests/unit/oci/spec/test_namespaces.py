"""Namespaces."""

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.sandbox import NamespacePaths
from crid.oci.spec import namespaces

POD = NamespacePaths(net="/ns/net", ipc="/ns/ipc", uts="/ns/uts")


def build(text: str, pid_path: str = "", pod: NamespacePaths = POD, *, cgroup_v2: bool = False) -> dict[str, str | None]:
    security = text_format.Parse(text, cri.LinuxContainerSecurityContext())
    return {item["type"]: item.get("path") for item in namespaces.build(security, pod, pid_path, cgroup_v2=cgroup_v2)}


def test_pid_modes() -> None:
    assert build("namespace_options { pid: CONTAINER }", "/ns/pid")["pid"] is None
    assert "pid" in build("namespace_options { pid: CONTAINER }")
    assert build("namespace_options { pid: POD }", "/ns/pid")["pid"] == "/ns/pid"
    assert build("")["pid"] is None
    assert build("namespace_options { pid: TARGET target_id: 'x' }", "/proc/7/ns/pid")["pid"] == "/proc/7/ns/pid"
    assert "pid" not in build("namespace_options { pid: NODE }", "/ns/pid")


def test_the_pods_namespaces_are_joined_and_the_hosts_are_left_out() -> None:
    assert build("") == {"mount": None, "network": "/ns/net", "ipc": "/ns/ipc", "uts": "/ns/uts", "pid": None}
    assert set(build("", pod=NamespacePaths(uts="/ns/uts"))) == {"mount", "uts", "pid"}


def test_a_cgroup_namespace_on_v2_unless_privileged() -> None:
    assert "cgroup" in build("", cgroup_v2=True)
    assert "cgroup" not in build("privileged: true", cgroup_v2=True)


def test_a_target_that_is_gone() -> None:
    with pytest.raises(InvalidArgumentError, match=r"target_id.*'gone'"):
        build("namespace_options { pid: TARGET target_id: 'gone' }")


def test_a_user_namespace_is_joined_first_and_cannot_see_the_hosts_cgroups() -> None:
    pod = NamespacePaths(net="/ns/net", ipc="/ns/ipc", uts="/ns/uts", user="/ns/user")
    assert list(build("", pod=pod).items())[:2] == [("mount", None), ("user", "/ns/user")]
    assert "cgroup" in build("privileged: true", pod=pod, cgroup_v2=True)


@pytest.mark.parametrize(
    ("asked", "pod"), [("", "network: NODE"), ("network: NODE", "network: NODE"), ("ipc: NODE", "ipc: NODE")]
)
def test_a_container_takes_the_pods_namespaces(asked: str, pod: str) -> None:
    namespaces.check_container(text_format.Parse(asked, cri.NamespaceOption()), text_format.Parse(pod, cri.NamespaceOption()))


@pytest.mark.parametrize("asked", ["network: NODE", "ipc: NODE", "network: CONTAINER", "ipc: 9"])
def test_a_container_with_other_namespaces_than_its_pod(asked: str) -> None:
    with pytest.raises(InvalidArgumentError, match=asked.split(":")[0]):
        namespaces.check_container(text_format.Parse(asked, cri.NamespaceOption()), cri.NamespaceOption())
