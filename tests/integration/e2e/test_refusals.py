"""Requests that cannot be served: a status of the right kind, a message that names the object, and nothing left behind."""

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry

UNKNOWN = "f" * 64


def test_pod_without_metadata(node: Node) -> None:
    """A pod must have a name."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "metadata"):
        node.cri.run_pod(cri.PodSandboxConfig())
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        node.cri.runtime.RunPodSandbox(cri.RunPodSandboxRequest())


def test_unknown_runtime_handler(node: Node) -> None:
    """The message names the handler that does not exist."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "no-such-handler"):
        node.pod(handler="no-such-handler")


def test_second_pod_of_the_same_name(node: Node) -> None:
    """The same request gets the same pod; another one with a taken name is refused until the first pod is removed."""
    config = node.pod_config(name="taken", uid="uid-1")
    other = node.pod_config(name="taken", uid="uid-1", labels={"another": "one"})
    pod = node.cri.run_pod(config)
    assert node.cri.run_pod(config) == pod
    with refused(grpc.StatusCode.ALREADY_EXISTS, "taken", pod):
        node.cri.run_pod(other)
    node.cri.stop_pod(pod)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "taken", pod):
        node.cri.run_pod(config)
    node.cri.remove_pod(pod)
    node.cri.run_pod(other)


def test_second_container_of_the_same_name(node: Node) -> None:
    """The same within a pod; another attempt is another container."""
    pod = node.pod()
    first = pod.create("true", name="main")
    assert pod.create("true", name="main") == first
    with refused(grpc.StatusCode.ALREADY_EXISTS, "main", first):
        pod.create("false", name="main")
    pod.create("true", name="main", attempt=1)
    node.cri.remove(first)
    pod.create("true", name="main")


def test_container_in_a_pod_that_is_not_there(node: Node) -> None:
    """NOT_FOUND with the pod's id."""
    with refused(grpc.StatusCode.NOT_FOUND, UNKNOWN):
        node.cri.create(UNKNOWN, node.container_config("true"), node.pod_config())


def test_container_in_a_stopped_pod(node: Node) -> None:
    """A stopped pod takes no containers."""
    pod = node.pod()
    node.cri.stop_pod(pod.id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, pod.id[:13]):
        pod.create("true")


def test_container_of_an_image_that_is_not_there(node: Node) -> None:
    """The kubelet pulls first; a missing image is named."""
    pod = node.pod()
    config = node.container_config("true")
    config.image.image = "127.0.0.1:9/not/here:1"
    with refused(grpc.StatusCode.NOT_FOUND, "not/here"):
        node.cri.create(pod.id, config, pod.config)


def test_container_without_config(node: Node) -> None:
    """No metadata, no image: refused as the client's mistake."""
    pod = node.pod()
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        node.cri.create(pod.id, cri.ContainerConfig(), pod.config)


def test_program_that_is_not_in_the_image(node: Node) -> None:
    """The runtime's own words reach the user. crun looks for the program at create, runc at start; both are served."""
    pod = node.pod()
    created: list[str] = []

    def create_and_start() -> None:
        created.append(pod.create("/no/such/program"))
        node.cri.start(created[0])

    with pytest.raises(grpc.RpcError, match="/no/such/program"):
        create_and_start()
    assert node.cri.containers() == created
    for container in created:
        status = node.cri.status(container)
        assert status.state == cri.CONTAINER_EXITED
        assert status.exit_code != 0
        assert "/no/such/program" in status.message


def test_contradicting_users(node: Node) -> None:
    """A group needs a user; a user is a number or a name."""
    pod = node.pod()
    options = namespaces()
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        pod.create(
            "true", security=cri.LinuxContainerSecurityContext(run_as_group=cri.Int64Value(value=5), namespace_options=options)
        )
    both = cri.LinuxContainerSecurityContext(
        run_as_user=cri.Int64Value(value=5), run_as_username="root", namespace_options=options
    )
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        pod.create("true", security=both)


def test_user_that_is_not_in_the_image(node: Node) -> None:
    """A name must be in the image's passwd file; the message names it."""
    security = cri.LinuxContainerSecurityContext(run_as_username="stranger", namespace_options=namespaces())
    pod = node.pod()
    with pytest.raises(grpc.RpcError, match="stranger"):
        pod.create("true", security=security)


def test_privileged_container_in_an_ordinary_pod(node: Node) -> None:
    """A pod that was not announced as privileged takes no privileged container."""
    pod = node.pod()
    security = cri.LinuxContainerSecurityContext(privileged=True, namespace_options=namespaces())
    with pytest.raises(grpc.RpcError, match="privileged") as caught:
        pod.create("true", security=security)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


@pytest.mark.parametrize(
    "verb",
    ["ContainerStatus", "StartContainer", "ExecSync", "ReopenContainerLog", "UpdateContainerResources", "ContainerStats"],
)
def test_verbs_on_a_container_that_is_not_there(node: Node, verb: str) -> None:
    """NOT_FOUND with the id that was asked for."""
    requests = {
        "ContainerStatus": cri.ContainerStatusRequest(container_id=UNKNOWN),
        "StartContainer": cri.StartContainerRequest(container_id=UNKNOWN),
        "ExecSync": cri.ExecSyncRequest(container_id=UNKNOWN, cmd=["true"]),
        "ReopenContainerLog": cri.ReopenContainerLogRequest(container_id=UNKNOWN),
        "UpdateContainerResources": cri.UpdateContainerResourcesRequest(
            container_id=UNKNOWN, linux=cri.LinuxContainerResources(cpu_shares=10)
        ),
        "ContainerStats": cri.ContainerStatsRequest(container_id=UNKNOWN),
    }
    with refused(grpc.StatusCode.NOT_FOUND, UNKNOWN):
        getattr(node.cri.runtime, verb)(requests[verb])


def test_pod_verbs_on_a_pod_that_is_not_there(node: Node) -> None:
    """Status and stats say so; stopping and removing what is not there succeeds."""
    with refused(grpc.StatusCode.NOT_FOUND, UNKNOWN):
        node.cri.pod_status(UNKNOWN)
    with refused(grpc.StatusCode.NOT_FOUND, UNKNOWN):
        node.cri.runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=UNKNOWN))
    node.cri.stop_pod(UNKNOWN)
    node.cri.remove_pod(UNKNOWN)
    node.cri.stop(UNKNOWN)
    node.cri.remove(UNKNOWN)


def test_verbs_in_the_wrong_state(node: Node) -> None:
    """Start what has ended, execute in what has not started or has ended, reopen a log that nobody writes."""
    pod = node.pod()
    container = pod.create("true")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, container[:13]):
        node.cri.exec(container, ["true"])
    node.cri.start(container)
    node.cri.wait_exited(container)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, container[:13]):
        node.cri.start(container)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, container[:13]):
        node.cri.exec(container, ["true"])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, container[:13]):
        node.cri.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
    update = cri.UpdateContainerResourcesRequest(container_id=container, linux=cri.LinuxContainerResources(cpu_shares=10))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, container[:13]):
        node.cri.runtime.UpdateContainerResources(update)


@pytest.mark.parametrize("name", ["../../escape", "a/b", "nul\0byte"])
def test_a_name_that_is_a_path_is_refused(node: Node, name: str) -> None:
    """A name with separators in it reaches no file system."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "name"):
        node.pod(name=name)


@pytest.mark.parametrize("name", ["line\nbreak", "x" * 5000, "..", 'quote" =x', "\u202e\U0001f600"])
def test_a_strange_name_is_only_a_name(node: Node, name: str) -> None:
    """What is no path may be a name; it forges no line in the log."""
    pod = node.pod(name=name, hostname="plain")
    assert node.cri.pod_status(pod.id).metadata.name == name
    assert not any(line.startswith("break") for line in node.daemon.log_text().splitlines())


def test_pull_errors(node: Node, registry: LocalRegistry) -> None:
    """A malformed reference, an image that the registry lacks, and a registry that nobody serves."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "UPPER"):
        node.cri.pull("UPPER//case")
    with refused(grpc.StatusCode.NOT_FOUND, "test/nothing"):
        node.cri.pull(f"{registry.address}/test/nothing:latest")
    with refused(grpc.StatusCode.UNAVAILABLE, "127.0.0.1:9"):
        node.cri.pull("127.0.0.1:9/test/busybox:latest")


def test_rpcs_of_later_versions_are_unimplemented(node: Node) -> None:
    """UNIMPLEMENTED, upon which the kubelet falls back; docs/rpcs.md lists them."""
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        node.cri.runtime.CheckpointContainer(cri.CheckpointContainerRequest(container_id=UNKNOWN))
