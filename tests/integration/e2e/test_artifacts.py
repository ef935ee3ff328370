"""OCI artifacts as volumes of containers, pushed to a registry by skopeo."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.configs import container_config
from tests.harness.daemon import Daemon, Settings
from tests.harness.layers import artifact, write_layout
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry

MODEL = artifact(("model/weights.bin", b"weights\n"), ("model/run", b"#!/bin/sh\n"), ("README", b"read me\n"))


@pytest.fixture(scope="module")
def pushed(registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of an artifact in the registry."""
    return registry.push(write_layout(tmp_path_factory.mktemp("artifact") / "layout", MODEL), "test/model:v1")


@pytest.fixture
def model(node: Node, pushed: str) -> Iterator[str]:
    """That artifact, pulled, and removed again after the test."""
    assert node.cri.pull(pushed) == MODEL.digest
    yield pushed
    node.clean()
    node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=pushed)))


def volume(reference: str, sub_path: str = "", path: str = "/model") -> cri.Mount:
    """Return a mount of an artifact."""
    return cri.Mount(container_path=path, image=cri.ImageSpec(image=reference), readonly=True, image_sub_path=sub_path)


def status(node: Node, reference: str) -> cri.Image:
    """Return what ImageStatus says."""
    return node.cri.image.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=reference))).image


def test_its_files_are_in_the_container(node: Node, model: str) -> None:
    """Readable by anybody, writable by nobody."""
    security = cri.LinuxContainerSecurityContext(run_as_user=cri.Int64Value(value=1234))
    container = node.pod().sleeper(mounts=[volume(model)], security=security)
    found = node.cri.output(container, "find", "/model", "-type", "f").split()
    assert sorted(found) == ["/model/README", "/model/model/run", "/model/model/weights.bin"]
    assert node.cri.output(container, "cat", "/model/model/weights.bin") == "weights"
    assert node.cri.exec(container, ["touch", "/model/x"]).exit_code != 0
    root = node.pod().sleeper(mounts=[volume(model)])
    assert node.cri.exec(root, ["sh", "-c", "echo changed > /model/README"]).exit_code != 0
    [shown] = node.cri.status(root).mounts
    assert (shown.image.image, shown.image.image_ref) == (model, MODEL.digest)


def test_part_of_it(node: Node, model: str) -> None:
    """A directory, or one file."""
    pod = node.pod()
    assert pod.printed("cat", "/model/weights.bin", mounts=[volume(model, "model")]) == "weights"
    assert pod.printed("cat", "/read/me", mounts=[volume(model, "README", "/read/me")]) == "read me"
    for wrong in ("missing", "..", "/README", "README/x"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "ImageVolumeMountFailed", "mounts[0].image_sub_path"):
            pod.create("true", mounts=[volume(model, wrong)])


def test_it_is_listed_and_found_like_an_image(node: Node, model: str) -> None:
    """By its name, its digest and its id, which is the manifest's digest."""
    repository = model.rpartition(":")[0]
    found = status(node, model)
    assert (found.id, list(found.repo_tags)) == (MODEL.digest, [model])
    assert list(found.repo_digests) == [f"{repository}@{MODEL.digest}"]
    for name in (found.id, found.id[7:20], f"{repository}@{MODEL.digest}"):
        assert status(node, name) == found
    listed = node.cri.image.ListImages(cri.ListImagesRequest()).images
    assert found in listed


def test_nothing_runs_from_it(node: Node, model: str) -> None:
    """And the message says why."""
    pod = node.pod()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, model, "OCI artifact of type 'application/vnd.example.model'"):
        node.cri.create(pod.id, container_config(model, ("true",)), pod.config)


def test_it_is_not_removed_while_it_is_mounted(node: Node, model: str) -> None:
    """As an image."""
    container = node.pod().sleeper(mounts=[volume(model)])
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=model))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, f"image {model}: is in use by container {container}"):
        node.cri.image.RemoveImage(request)
    assert node.cri.output(container, "cat", "/model/README") == "read me"
    layers = node.daemon.root / "layers"
    before = set(layers.iterdir())
    node.cri.remove(container)
    node.cri.image.RemoveImage(request)
    assert not status(node, model).id
    assert len(before - set(layers.iterdir())) == 1


def test_after_a_killed_daemon(own_node: Node, pushed: str) -> None:
    """It is there, and whoever removes its container unmounts it."""
    own_node.cri.pull(pushed)
    container = own_node.pod().sleeper(mounts=[volume(pushed)])
    own_node.daemon.kill()
    own_node.daemon.start()
    assert own_node.cri.output(container, "cat", "/model/README") == "read me"
    assert status(own_node, pushed).id == MODEL.digest
    own_node.clean()
    assert str(own_node.daemon.run_root) not in Path("/proc/self/mountinfo").read_text()


def test_a_seccomp_profile(registry: LocalRegistry, image: str, tmp_path: Path) -> None:
    """By annotation, for a container whose config asks for no filter; it is pulled when it is first asked for."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
    kind = ("application/vnd.cncf.seccomp-profile.config.v1+json", b"{}")
    made = artifact(("profile.json", json.dumps(profile).encode()), artifact_type="", config=kind)
    reference = registry.push(write_layout(tmp_path / "profile", made), "test/seccomp:v1")
    other = registry.push(write_layout(tmp_path / "other", MODEL), "test/other:v1")
    runtimes = {"runc": {"allowed_annotations": ["seccomp-profile.crio.io"]}}
    settings = Settings(default_runtime="runc", runtimes=runtimes, registries_conf=registry.registries_conf())
    with Daemon(settings) as daemon:
        node = Node(daemon, daemon.cri.pull(image))

        def made_directory(value: str, profile: cri.SecurityProfile | None = None) -> bool:
            security = cri.LinuxContainerSecurityContext(seccomp=profile)
            container = node.pod(annotations={"seccomp-profile.crio.io": value}).sleeper(security=security)
            return node.cri.exec(container, ["mkdir", "/tmp/made"]).exit_code == 0

        assert made_directory("")
        assert not made_directory(reference)
        assert made_directory(reference, cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault))
        unconfined = cri.LinuxContainerSecurityContext()
        pod = node.pod(annotations={"seccomp-profile.crio.io": other})
        with refused(grpc.StatusCode.FAILED_PRECONDITION, other, "application/vnd.cncf.seccomp-profile"):
            pod.create("true", security=unconfined)
        pod = node.pod(annotations={"seccomp-profile.crio.io": f"{registry.address}/test/none:1"})
        with refused(grpc.StatusCode.NOT_FOUND, "test/none"):
            pod.create("true", security=unconfined)
        node.clean()
