"""Mounts with all their options: propagation, recursive read-only, extra options, and images as volumes."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry

PRIVATE, TO_CONTAINER, BOTH = (
    cri.PROPAGATION_PRIVATE,
    cri.PROPAGATION_HOST_TO_CONTAINER,
    cri.PROPAGATION_BIDIRECTIONAL,
)


def mount(*arguments: str | Path) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory that is a shared mount of its own, with a tmpfs at `sub`."""
    directory = tmp_path / "shared"
    (directory / "sub").mkdir(parents=True)
    (directory / "later").mkdir()
    mount("--bind", directory, directory)
    mount("--make-private", directory)  # not the peer of what it covers
    mount("--make-shared", directory)
    mount("-t", "tmpfs", "sub", directory / "sub")
    yield directory
    subprocess.run(["umount", "--recursive", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize(("mode", "seen"), [(PRIVATE, False), (TO_CONTAINER, True), (BOTH, True)])
def test_mounts_of_the_host_reach_the_container(
    node: Node, shared: Path, mode: cri.MountPropagation.ValueType, *, seen: bool
) -> None:
    """Those made before are always there, later ones with propagation."""
    container = node.pod().sleeper(mounts=[cri.Mount(container_path="/m", host_path=str(shared), propagation=mode)])
    mount("-t", "tmpfs", "later", shared / "later")
    (shared / "sub/file").touch()
    (shared / "later/file").touch()
    assert node.cri.output(container, "ls", "/m/sub") == "file"
    assert node.cri.output(container, "ls", "/m/later") == ("file" if seen else "")
    assert [item.propagation for item in node.cri.status(container).mounts] == [mode]


@pytest.mark.parametrize(("mode", "seen"), [(PRIVATE, False), (TO_CONTAINER, False), (BOTH, True)])
def test_mounts_of_the_container_reach_the_host(
    node: Node, shared: Path, mode: cri.MountPropagation.ValueType, *, seen: bool
) -> None:
    """Only both ways."""
    privileged = cri.LinuxContainerSecurityContext(privileged=True, namespace_options=namespaces())
    pod = node.pod(privileged=True)
    mounts = [cri.Mount(container_path="/m", host_path=str(shared), propagation=mode)]
    container = pod.sleeper(mounts=mounts, security=privileged)
    node.cri.output(container, "mount", "-t", "tmpfs", "inside", "/m/later")
    node.cri.output(container, "touch", "/m/later/file")
    assert (shared / "later/file").exists() == seen


@pytest.mark.parametrize("mode", [TO_CONTAINER, BOTH])
def test_propagation_wants_a_mount_that_takes_part(node: Node, shared: Path, mode: cri.MountPropagation.ValueType) -> None:
    """On a private mount nothing would ever propagate: refused, naming the mount."""
    mount("--make-private", shared)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "mounts[0].propagation", str(shared)):
        node.pod().create("true", mounts=[cri.Mount(container_path="/m", host_path=str(shared), propagation=mode)])


def test_read_only_and_recursively_so(node: Node, shared: Path) -> None:
    """`readonly` leaves mounts below writable, `recursive_read_only` does not."""
    mounts = [
        cri.Mount(container_path="/ro", host_path=str(shared), readonly=True),
        cri.Mount(container_path="/rro", host_path=str(shared), readonly=True, recursive_read_only=True),
    ]
    script = "! touch /ro/x && touch /ro/sub/x && ! touch /rro/x && ! touch /rro/sub/y && echo right"
    assert node.pod().printed("sh", "-c", script, mounts=mounts) == "right"


def test_extra_options(node: Node, tmp_path: Path) -> None:
    """noexec, nosuid, nodev (KEP-5855)."""
    (tmp_path / "program").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "program").chmod(0o755)
    mounts = [
        cri.Mount(container_path="/plain", host_path=str(tmp_path)),
        cri.Mount(container_path="/safe", host_path=str(tmp_path), mount_options=["noexec", "nosuid", "nodev"]),
    ]
    text = node.pod().printed("sh", "-c", "/plain/program; ! /safe/program && grep ' /safe ' /proc/mounts", mounts=mounts)
    ran, line = text.splitlines()
    assert ran == "ran"
    assert {"noexec", "nosuid", "nodev", "rw"} <= set(line.split()[3].split(","))


@pytest.fixture(scope="module")
def pushed(registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of an image with two layers, one of which no other image has."""
    directory = tmp_path_factory.mktemp("data")
    small_image.write_layout(directory / "layout", extra_files={"data/deep/file": b"of the image\n"})
    return registry.push(directory / "layout", "test/data:latest")


@pytest.fixture
def data(node: Node, pushed: str) -> Iterator[str]:
    """That image, pulled, and removed again after the test."""
    node.cri.pull(pushed)
    yield pushed
    node.clean()
    node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=pushed)))


def image_mount(reference: str, sub_path: str = "", **more: Any) -> cri.Mount:
    """Return a mount of an image at /image."""
    image = cri.ImageSpec(image=reference, user_specified_image=reference)
    options: dict[str, Any] = {"readonly": True, "image_sub_path": sub_path, **more}
    return cri.Mount(container_path="/image", image=image, **options)


def test_an_image_as_volume(node: Node, data: str) -> None:
    """Readable, executable, not writable; the status tells which image it is."""
    identifier = node.cri.pull(data)  # again, for its id
    container = node.pod().sleeper(mounts=[image_mount(data)])
    assert node.cri.output(container, "cat", "/image/data/deep/file") == "of the image"
    assert node.cri.output(container, "/image/bin/busybox", "echo", "runs") == "runs"
    assert node.cri.exec(container, ["touch", "/image/data/x"]).exit_code != 0
    [shown] = node.cri.status(container).mounts
    assert (shown.image.image, shown.image.image_ref, shown.host_path, shown.readonly) == (data, identifier, "", True)


def test_a_directory_of_an_image(node: Node, data: str) -> None:
    """And nothing but a directory that is in it."""
    pod = node.pod()
    assert pod.printed("cat", "/image/file", mounts=[image_mount(data, "data/deep")]) == "of the image"
    assert pod.printed("ls", "/image", mounts=[image_mount(data, "data/", mount_options=["noexec"])]) == "deep"
    for wrong in ("missing", "/data", "data/../..", "..", "data/deep/file", "bin/sh"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "ImageVolumeMountFailed", "mounts[0].image_sub_path"):
            pod.create("true", mounts=[image_mount(data, wrong)])


def test_an_image_in_use_is_not_removed(node: Node, data: str) -> None:
    """Neither one that a container has mounted nor the one that it runs from, though it has ended; then both can be."""
    container = node.pod().sleeper(mounts=[image_mount(data)])
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=data))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, f"image {data}: is in use by container {container}"):
        node.cri.image.RemoveImage(request)
    node.cri.runtime.StopContainer(cri.StopContainerRequest(container_id=container))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, f"image {data}: is in use by container {container}"):
        node.cri.image.RemoveImage(request)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, f"image {node.image}: is in use by container {container}"):
        node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=node.image)))
    layers = node.daemon.root / "layers"
    before = set(layers.iterdir())
    node.cri.remove(container)
    assert set(layers.iterdir()) == before
    node.cri.image.RemoveImage(request)
    assert not node.cri.image.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=data))).HasField("image")
    assert len(before - set(layers.iterdir())) == 1


def test_image_volumes_after_a_killed_daemon(own_node: Node, pushed: str) -> None:
    """They are unmounted with their container by whoever removes it."""
    own_node.cri.pull(pushed)
    container = own_node.pod().sleeper(mounts=[image_mount(pushed)])
    own_node.daemon.kill()
    own_node.daemon.start()
    assert own_node.cri.output(container, "cat", "/image/data/deep/file") == "of the image"
    own_node.clean()
    assert str(own_node.daemon.run_root) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("mount", "field"),
    [
        (image_mount("IMAGE", readonly=False), "mounts[0].readonly"),
        (image_mount("IMAGE", host_path="/tmp"), "mounts[0].host_path"),
        (image_mount("IMAGE", propagation=TO_CONTAINER), "mounts[0].propagation"),
        (image_mount(""), "mounts[0].image.image"),
        (cri.Mount(container_path="/m", host_path="/tmp", image_sub_path="etc"), "mounts[0].image_sub_path"),
    ],
)
def test_contradictions_of_image_volumes(node: Node, mount: cri.Mount, field: str) -> None:
    """Refused, naming the field."""
    if mount.image.image:
        mount.image.image = node.image
    with refused(grpc.StatusCode.INVALID_ARGUMENT, field):
        node.pod().create("true", mounts=[mount])


def test_an_image_that_is_not_there(node: Node) -> None:
    """The client pulls it first."""
    with refused(grpc.StatusCode.NOT_FOUND, "not/there"):
        node.pod().create("true", mounts=[image_mount("127.0.0.1:9/not/there:1")])
    assert node.cri.containers() == []
