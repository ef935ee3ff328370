"""Images with several names, which are taken from them one by one."""

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


def test_a_name_at_a_time(named: Node, names: list[str]) -> None:
    """Others stay, with their digests; the last takes the image. What is gone can be removed again, and pulled."""
    whole = shown(named.cri, names[0])
    assert whole is not None
    assert (list(whole.repo_tags), len(whole.repo_digests)) == (names, 2)
    for _ in range(2):
        remove(named.cri, names[0])
    assert shown(named.cri, names[0]) is None
    rest = shown(named.cri, whole.id)
    assert rest is not None
    assert (list(rest.repo_tags), rest.repo_digests) == (names[1:], whole.repo_digests)
    remove(named.cri, names[1])
    last = shown(named.cri, names[2])
    assert last is not None
    assert [digest.partition("@")[0] for digest in last.repo_digests] == [names[2].rpartition(":")[0]]
    for _ in range(2):
        remove(named.cri, names[2])
    assert [shown(named.cri, name) for name in (*names, whole.id, *whole.repo_digests)] == [None] * 6
    assert named.cri.pull(names[1]) == whole.id


def test_the_names_of_an_image_in_use(named: Node, names: list[str]) -> None:
    """All but the last can go, the one that the container was made with too; it runs on, and another can be made by the id."""
    pod = named.pod()
    container = pod.sleeper()
    identifier = named.cri.status(container).image_id
    for name in names[:2]:
        remove(named.cri, name)
    for name in (names[2], identifier):
        with refused(grpc.StatusCode.FAILED_PRECONDITION, f"image {name}: is in use by container {container}"):
            remove(named.cri, name)
    assert named.cri.output(container, "cat", "/named") == "an image of many names"
    status = named.cri.status(container)
    assert (status.image.image, status.image_id) == (names[0], identifier)
    again = Node(named.daemon, identifier).pod()
    assert again.printed("cat", "/named") == "an image of many names"
    named.clean()
    remove(named.cri, names[2])
    assert shown(named.cri, identifier) is None


def test_an_id_takes_all_names(named: Node, names: list[str]) -> None:
    """So does its beginning."""
    whole = shown(named.cri, names[0])
    assert whole is not None
    remove(named.cri, whole.id.removeprefix("sha256:")[:12])
    assert [shown(named.cri, name) for name in names] == [None] * 3


@pytest.mark.parametrize("step", ["taking a name from it", "removing its record", "looking for garbage"])
def test_a_daemon_that_is_killed_meanwhile(registry: LocalRegistry, names: list[str], step: str) -> None:
    """The name is there or not, the image is whole or gone, and the removal can be repeated."""
    with Daemon(Settings(default_runtime="runc", registries_conf=registry.registries_conf())) as daemon:
        for name in names:
            daemon.cri.pull(name)
        daemon.stop()
        daemon.start({"CRID_TRACE_KILL": f"image removal: {step}"})
        with contextlib.suppress(grpc.RpcError):
            for name in names:
                remove(daemon.cri, name)
        assert daemon.wait_ended(60) == -signal.SIGKILL
        daemon.start()
        left = {"taking a name from it": names, "removing its record": names[2:], "looking for garbage": []}[step]
        [*found] = daemon.cri.image.ListImages(cri.ListImagesRequest()).images
        assert [list(image.repo_tags) for image in found] == [left][: len(found)]
        assert bool(found) == bool(left)
        check(daemon)
        if left:
            assert Node(daemon, names[2]).pod().printed("cat", "/named") == "an image of many names"
            Node(daemon, names[2]).clean()
        daemon.cri.pull(names[2])  # what is young of an image that is gone may be an unfinished pull's
        for name in names:
            remove(daemon.cri, name)
        assert not list((daemon.root / "images/blobs/sha256").iterdir())
        check(daemon)


def check(daemon: Daemon) -> None:
    """`crid check --full` finds nothing."""
    argv = [str(CRID), "--config", str(daemon.config), "check", "--full"]
    found = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr
