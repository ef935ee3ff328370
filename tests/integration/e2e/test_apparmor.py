"""AppArmor profiles, on hosts that have it (the virtual machine does: tests/vm)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.node import Node
from tests.harness.tools import require_tool

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not Path("/sys/kernel/security/apparmor/profiles").exists(), reason="this host's kernel has AppArmor off"
    ),
]

DENY_WRITE = """
profile crid-test-deny flags=(attach_disconnected) {
  file,
  network,
  capability,
  signal,
  deny /** w,
}
"""


@pytest.fixture
def deny_write() -> Iterator[str]:
    """A loaded profile under which nothing can be written."""
    parser = require_tool("apparmor_parser")
    subprocess.run([parser, "-rK"], input=DENY_WRITE.encode(), check=True)
    yield "crid-test-deny"
    subprocess.run([parser, "-R"], input=DENY_WRITE.encode(), check=True)


def localhost(name: str) -> cri.LinuxContainerSecurityContext:
    """A container under a profile of the host's."""
    profile = cri.SecurityProfile(profile_type=cri.SecurityProfile.Localhost, localhost_ref=name)
    return cri.LinuxContainerSecurityContext(apparmor=profile)


CURRENT = "cat /proc/self/attr/current"


def test_the_default_profile_confines(node: Node) -> None:
    """It is loaded, in force, and denies mounting even with the capability for it; a privileged container goes without."""
    pod = node.pod(privileged=True)
    assert pod.printed("sh", "-c", CURRENT) == "crid-default (enforce)"
    admin = cri.LinuxContainerSecurityContext(capabilities=cri.Capability(add_capabilities=["SYS_ADMIN"]))
    assert pod.printed("sh", "-c", "mount -t tmpfs none /tmp 2>/dev/null || echo denied", security=admin) == "denied"
    admin.apparmor.profile_type = cri.SecurityProfile.Unconfined
    assert pod.printed("sh", "-c", "mount -t tmpfs none /tmp 2>/dev/null && echo done", security=admin) == "done"
    whole = cri.LinuxContainerSecurityContext(privileged=True)
    assert pod.printed("sh", "-c", CURRENT, security=whole) == "unconfined"


def test_the_default_profile_leaves_work_alone(node: Node) -> None:
    """Files, processes, signals, exec, and the stop."""
    pod = node.pod()
    script = (
        "sleep 1000 & kill $! && wait; echo a >/tmp/a && ln -s a /tmp/b && cat /proc/sys/kernel/hostname >/tmp/b && echo fine"
    )
    assert pod.printed("sh", "-c", script) == "fine"
    container = pod.run("sh", "-c", "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.1; done")
    node.cri.output(container, "sh", "-c", "while [ ! -e /ready ]; do sleep 0.1; done")
    assert node.cri.output(container, "sh", "-c", CURRENT) == "crid-default (enforce)"
    node.cri.stop(container, timeout=30)
    assert node.cri.status(container).exit_code == 7


def test_a_profile_of_the_hosts(node: Node, deny_write: str) -> None:
    """By the field, with and without the prefix of older clients, and by the older field, over which the new one wins."""
    pod = node.pod()
    script = "touch /tmp/x 2>/dev/null && echo written || echo denied"
    for name in (deny_write, f"localhost/{deny_write}"):
        assert pod.printed("sh", "-c", script, security=localhost(name)) == "denied"
    old = cri.LinuxContainerSecurityContext(apparmor_profile=f"localhost/{deny_write}")
    assert pod.printed("sh", "-c", script, security=old) == "denied"
    old.apparmor.profile_type = cri.SecurityProfile.Unconfined
    assert pod.printed("sh", "-c", script, security=old) == "written"


def test_a_profile_that_is_not_loaded(node: Node) -> None:
    """Refused before anything is made, by name."""
    pod = node.pod()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "crid-test-missing", "not loaded"):
        pod.create("true", security=localhost("localhost/crid-test-missing"))
