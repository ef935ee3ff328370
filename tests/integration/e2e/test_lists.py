"""Statuses and lists: filters, ids by prefix, idempotence of stop and remove."""

from crid.cri import api_pb2 as cri
from tests.harness.client import DEADLINE
from tests.harness.node import Node
from tests.harness.tools import eventually


def test_pod_filters(node: Node) -> None:
    """By id, prefix of an id, state and labels, and all of them together; no match is an empty list."""
    web, other = node.pod(labels={"app": "web"}), node.pod(labels={"app": "db"})
    node.cri.stop_pod(other.id)
    assert set(node.cri.pods()) == {web.id, other.id}
    assert node.cri.pods(id=web.id) == [web.id]
    assert node.cri.pods(id=web.id[:10]) == [web.id]
    assert node.cri.pods(label_selector={"app": "db"}) == [other.id]
    assert node.cri.pods(state=cri.PodSandboxStateValue(state=cri.SANDBOX_READY)) == [web.id]
    assert node.cri.pods(state=cri.PodSandboxStateValue(state=cri.SANDBOX_NOTREADY)) == [other.id]
    assert node.cri.pods(id=web.id, label_selector={"app": "db"}) == []
    assert node.cri.pods(label_selector={"app": "web", "absent": "x"}) == []
    assert node.cri.pods(id="0" * 64) == []


def test_container_filters(node: Node) -> None:
    """By id, prefix, pod, state and labels."""
    first, second = node.pod(), node.pod()
    created = first.create("true", labels={"tier": "back"})
    running = first.sleeper(labels={"tier": "front"})
    exited = second.run("true", labels={"tier": "front"})
    node.cri.wait_exited(exited)
    assert set(node.cri.containers()) == {created, running, exited}
    assert node.cri.containers(id=running[:12]) == [running]
    assert set(node.cri.containers(pod_sandbox_id=first.id)) == {created, running}
    assert set(node.cri.containers(pod_sandbox_id=first.id[:12])) == {created, running}
    assert set(node.cri.containers(label_selector={"tier": "front"})) == {running, exited}
    states = {created: cri.CONTAINER_CREATED, running: cri.CONTAINER_RUNNING, exited: cri.CONTAINER_EXITED}
    for container, state in states.items():
        assert node.cri.containers(state=cri.ContainerStateValue(state=state)) == [container]
    assert node.cri.containers(pod_sandbox_id=second.id, label_selector={"tier": "back"}) == []


def test_a_listed_container_says_what_it_was_made_of(node: Node) -> None:
    """Metadata, labels, annotations, image as asked for and as resolved, and its pod."""
    pod = node.pod()
    config = node.container_config("true", name="told", attempt=3, labels={"a": "b"})
    config.image.user_specified_image = "registry.example/told:1"
    container = node.cri.create(pod.id, config, pod.config)
    item = node.cri.runtime.ListContainers(cri.ListContainersRequest()).containers[0]
    assert (item.id, item.pod_sandbox_id, item.metadata) == (container, pod.id, config.metadata)
    assert (dict(item.labels), dict(item.annotations)) == (dict(config.labels), dict(config.annotations))
    assert item.image.image == "registry.example/told:1"
    assert item.image_ref.partition("@")[2].startswith("sha256:")
    assert item.image_id
    status = node.cri.status(container)
    assert (status.image_ref, status.image_id, status.metadata) == (item.image_ref, item.image_id, item.metadata)


def test_ids_may_be_shortened(node: Node) -> None:
    """A unique prefix of an id does as well as the id, as crictl's users expect."""
    pod = node.pod()
    container = pod.sleeper()
    assert node.cri.pod_status(pod.id[:13]).id == pod.id
    assert node.cri.status(container[:13]).id == container
    assert node.cri.output(container[:13], "echo", "x") == "x"
    node.cri.stop(container[:13])
    assert node.cri.status(container).state == cri.CONTAINER_EXITED
    node.cri.remove(container[:13])
    node.cri.remove_pod(pod.id[:13])
    assert node.cri.pods() == []


def test_stop_and_remove_again_and_again(node: Node) -> None:
    """Each of the four is a success however often it is called, on what runs, has ended or is gone."""
    pod = node.pod()
    container = pod.sleeper()
    for _ in range(2):
        node.cri.stop(container)
    for _ in range(2):
        node.cri.remove(container)
    running = pod.sleeper()
    for _ in range(2):
        node.cri.stop_pod(pod.id)
    assert node.cri.status(running).state == cri.CONTAINER_EXITED
    for _ in range(2):
        node.cri.remove_pod(pod.id)
    assert node.cri.containers() == []


def test_removing_a_running_pod_takes_its_containers_along(node: Node) -> None:
    """Created, running and exited ones."""
    pod = node.pod()
    pod.create("true")
    pod.sleeper()
    node.cri.wait_exited(pod.run("true"))
    node.cri.remove_pod(pod.id)
    assert (node.cri.pods(), node.cri.containers()) == ([], [])


def test_a_stopped_pod_keeps_its_containers_until_they_are_removed(node: Node) -> None:
    """Their logs and exit codes are still asked for."""
    pod = node.pod()
    container = pod.run("sh", "-c", "exit 4")
    node.cri.wait_exited(container)
    node.cri.stop_pod(pod.id)
    assert node.cri.status(container).exit_code == 4
    assert node.cri.pod_status(pod.id).network.ip == "" or node.cri.pod_status(pod.id).state == cri.SANDBOX_NOTREADY


def test_stop_grace_period_ends_in_sigkill(node: Node) -> None:
    """A process that ignores its stop signal is killed: 137."""
    pod = node.pod()
    container = pod.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: pod.log(container), "the trap is set")
    node.cri.stop(container, timeout=1)
    assert node.cri.status(container).exit_code == 137


def test_concurrent_stops_join(node: Node) -> None:
    """A second StopContainer may shorten the first one's deadline; both succeed."""
    pod = node.pod()
    container = pod.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: pod.log(container), "the trap is set")  # until it is the program, runc heeds the signal
    patient = node.cri.runtime.StopContainer.future(
        cri.StopContainerRequest(container_id=container, timeout=40), timeout=DEADLINE
    )
    node.cri.stop(container, timeout=0)
    patient.result()
    assert node.cri.status(container).exit_code == 137


def test_images(node: Node) -> None:
    """List, status, filesystem; removing and pulling again."""
    images = node.cri.image.ListImages(cri.ListImagesRequest()).images
    assert len(images) == 1
    tag = images[0].repo_tags[0]
    assert (
        node.cri.image.ListImages(cri.ListImagesRequest(filter=cri.ImageFilter(image=cri.ImageSpec(image=tag)))).images
        == images
    )
    assert node.cri.image.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=tag))).image.id == images[0].id
    assert not node.cri.image.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image="none.invalid/a:b"))).HasField(
        "image"
    )
    usage = node.cri.image.ImageFsInfo(cri.ImageFsInfoRequest()).image_filesystems[0]
    assert usage.used_bytes.value >= images[0].size > 0
    assert usage.fs_id.mountpoint
    for _ in range(2):
        node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=tag)))
    assert not node.cri.image.ListImages(cri.ListImagesRequest()).images
    assert node.cri.pull(tag) == node.image
