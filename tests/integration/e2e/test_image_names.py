"""Images with several names, each of which stands for all of them when an image is removed."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator

import grpc
import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness.client import Cri, refused
from tests.harness.daemon import CRID, Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry


@pytest.fixture(scope="module")
def names(registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One image under two tags of a repository and in a second repository."""
    layout = tmp_path_factory.mktemp("named") / "layout"
    small_image.write_layout(layout, extra_files={"named": b"an image of many names"})
    return [registry.push(layout, name) for name in ("test/named:1", "test/named:2", "test/renamed:1")]


@pytest.fixture
def named(node: Node, names: list[str]) -> Iterator[Node]:
    """A node that has pulled the image by all its names, and containers of it."""
    for name in names:
        node.cri.pull(name)
    yield Node(node.daemon, names[0])
    node.clean()
    for name in names:
        remove(node.cri, name)


def remove(client: Cri, name: str) -> None:
    client.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=name)))


def shown(client: Cri, name: str) -> cri.Image | None:
    """Return the image called `name`, or None."""
    answer = client.image.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=name)))
    return answer.image if answer.HasField("image") else None


@pytest.mark.parametrize("which", ["first tag", "other repository", "digest", "id", "beginning of the id"])
def test_one_stands_for_all(named: Node, names: list[str], which: str) -> None:
    """The whole image is gone at return, by whichever name it was removed (CRI since 1.36); again is no error."""
    whole = shown(named.cri, names[0])
    assert whole is not None
    assert (list(whole.repo_tags), len(whole.repo_digests)) == (names, 2)
    given = {
        "first tag": names[0],
        "other repository": names[2],
        "digest": whole.repo_digests[1],
        "id": whole.id,
        "beginning of the id": whole.id.removeprefix("sha256:")[:12],
    }[which]
    for _ in range(2):
        remove(named.cri, given)
    assert [shown(named.cri, name) for name in (*names, whole.id, *whole.repo_digests)] == [None] * 6
    assert named.cri.pull(names[1]) == whole.id


def test_an_image_in_use(named: Node, names: list[str]) -> None:
    """It keeps all its names, whichever is given, until its last container is removed."""
    pod = named.pod()
    container = pod.sleeper()
    identifier = named.cri.status(container).image_id
    for name in (*names, identifier):
        with refused(grpc.StatusCode.FAILED_PRECONDITION, f"image {name}: is in use by container {container}"):
            remove(named.cri, name)
    kept = shown(named.cri, identifier)
    assert kept is not None
    assert list(kept.repo_tags) == names
    named.clean()
    remove(named.cri, names[2])
    assert shown(named.cri, identifier) is None


@pytest.mark.parametrize("step", ["removing its record", "looking for garbage"])
def test_a_daemon_that_is_killed_meanwhile(registry: LocalRegistry, names: list[str], step: str) -> None:
    """The image is whole, with all its names, or gone, and the removal can be repeated."""
    with Daemon(Settings(default_runtime="runc", registries_conf=registry.registries_conf())) as daemon:
        for name in names:
            daemon.cri.pull(name)
        daemon.stop()
        daemon.start({"CRID_TRACE_KILL": f"image removal: {step}"})
        with contextlib.suppress(grpc.RpcError):
            remove(daemon.cri, names[0])
        assert daemon.wait_ended(60) == -signal.SIGKILL
        daemon.start()
        left = names if step == "removing its record" else []
        found = daemon.cri.image.ListImages(cri.ListImagesRequest()).images
        assert [list(image.repo_tags) for image in found] == ([left] if left else [])
        check(daemon)
        daemon.cri.pull(names[2])  # what is young of an image that is gone may be an unfinished pull's
        remove(daemon.cri, names[2])
        assert not list((daemon.root / "images/blobs/sha256").iterdir())
        check(daemon)


def check(daemon: Daemon) -> None:
    """`crid check --full` finds nothing."""
    argv = [str(CRID), "--config", str(daemon.config), "check", "--full"]
    found = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr
