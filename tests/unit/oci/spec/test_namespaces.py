"""Namespaces."""

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, UnimplementedError
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pid: TARGET target_id: 'gone'", "target_id.*'gone'"),
        ("userns_options { mode: CONTAINER }", "POD or NODE"),
        ("userns_options { mode: TARGET }", "POD or NODE"),
        ("userns_options { mode: NODE uids { length: 1 } gids { length: 1 } }", "NODE takes no"),
        ("userns_options { uids { length: 1 } uids { length: 1 } gids { length: 1 } }", "exactly one"),
        ("userns_options { uids { length: 1 } }", "exactly one"),
        ("userns_options { uids { length: 1 host_id: 5 } gids { length: 1 } }", "differ"),
        ("userns_options { uids { container_id: 1 length: 9 } gids { container_id: 1 length: 9 } }", "cover id 0"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        build(f"namespace_options {{ {text} }}")


def test_user_namespaces_are_still_to_come() -> None:
    with pytest.raises(UnimplementedError, match="userns_options"):
        build("namespace_options { userns_options { uids { length: 9 } gids { length: 9 } } }")
