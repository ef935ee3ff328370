"""The seccomp notifier with both runtimes: what is reported, how the calls end, and what becomes of the container."""

from collections.abc import Iterator

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually
from tests.integration.e2e.conftest import require_runtime

ANNOTATION = "seccomp-notifier-action.crio.io"
FORBIDDEN = "unshare -U true; umount /proc; umount /proc"


@pytest.fixture(scope="module", params=["crun", "runc"])
def notifying(request: pytest.FixtureRequest, registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node whose runtime allows the annotation."""
    require_runtime(request.param)
    settings = Settings(
        default_runtime=request.param,
        registries_conf=registry.registries_conf(),
        runtimes={request.param: {"allowed_annotations": [ANNOTATION]}},
    )
    with Daemon(settings) as daemon:
        yield Node(daemon, daemon.cri.pull(image))


@pytest.fixture
def node(notifying: Node) -> Iterator[Node]:
    yield notifying
    notifying.clean()
    assert list((notifying.daemon.run_root / "seccomp").iterdir()) == []


def test_a_container_is_stopped_with_the_calls_in_its_status(node: Node) -> None:
    pod = node.pod(annotations={ANNOTATION: "stop"})
    container = pod.run("sh", "-c", f"{FORBIDDEN}; sleep 1000000")
    status = node.cri.wait_exited(container)
    assert (status.reason, status.exit_code) == ("seccomp killed", 137)
    assert status.message == "Used forbidden syscalls: umount2 (2x), unshare (1x)"
    texts = " ".join(line.text for line in pod.log(container))
    assert "Operation not permitted" in texts


def test_otherwise_they_are_only_logged(node: Node) -> None:
    pod = node.pod(annotations={ANNOTATION: "log"})
    container = pod.run("sh", "-c", f"{FORBIDDEN}; exit 3")
    status = node.cri.wait_exited(container)
    assert (status.reason, status.exit_code, status.message) == ("Error", 3, "")
    eventually(lambda: "umount2 (2x), unshare (1x)" in node.daemon.log_text(), "the calls are logged")


def test_a_container_that_keeps_to_its_profile_goes_on(node: Node) -> None:
    pod = node.pod(annotations={ANNOTATION: "stop"})
    assert pod.printed("sh", "-c", "ls / > /dev/null; echo fine") == "fine"


def test_commands_are_watched_too_and_by_the_next_daemon(node: Node) -> None:
    pod = node.pod(annotations={ANNOTATION: "stop"})
    container = pod.sleeper()
    assert node.cri.output(container, "echo", "before") == "before"
    node.daemon.restart()
    assert node.cri.output(container, "echo", "after") == "after"
    assert node.cri.exec(container, ["umount", "/proc"]).exit_code != 0
    status = node.cri.wait_exited(container)
    assert (status.reason, status.message) == ("seccomp killed", "Used forbidden syscalls: umount2 (1x)")


def test_without_the_annotation_or_without_a_profile_there_is_no_listener(node: Node) -> None:
    assert node.pod().printed("echo", "fine") == "fine"
    pod = node.pod(annotations={ANNOTATION: "stop"})
    unconfined = cri.LinuxContainerSecurityContext(seccomp=cri.SecurityProfile(profile_type=cri.SecurityProfile.Unconfined))
    container = pod.sleeper(security=unconfined)
    assert list((node.daemon.run_root / "seccomp").iterdir()) == []
    node.cri.stop(container)
