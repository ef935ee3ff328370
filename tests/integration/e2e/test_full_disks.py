"""Disks without room, for another byte or for another file, below the root or the run directory: what makes room works, the
daemon starts, and nothing that was known is lost."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from crid.cri import api_pb2 as cri
from scripts import small_image
from tests.harness.daemon import CRID, Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.small_disk import Small, small_disk, small_memory


@dataclass(frozen=True, slots=True)
class Full:
    """A node one of whose directories is on `disk`, which `fill` fills."""

    node: Node
    disk: Small
    fill: Callable[[], None]
    other_image: str


@pytest.fixture(scope="module")
def other_image(registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that no container needs."""
    layout = tmp_path_factory.mktemp("other") / "layout"
    small_image.write_layout(layout, extra_files={"file": bytes(300_000)})
    return registry.push(layout, "test/other:latest")


@pytest.fixture(params=["bytes of root", "files of root", "bytes of runroot", "files of runroot"])
def full(request: pytest.FixtureRequest, registry: LocalRegistry, image: str, other_image: str) -> Iterator[Full]:
    """Not full yet."""
    kind, _, where = request.param.partition(" of ")
    daemon = Daemon(Settings(registries_conf=registry.registries_conf()))
    with daemon.prepared(), small_disk(daemon.root) if where == "root" else small_memory(daemon.run_root) as disk:
        daemon.start()
        node = Node(daemon, daemon.cri.pull(image))
        try:
            yield Full(node, disk, disk.fill if kind == "bytes" else disk.fill_with_files, daemon.cri.pull(other_image))
        finally:
            disk.make_room()
            node.clean()
            daemon.stop()


def check(node: Node, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `crid check`."""
    argv = [str(CRID), "--config", str(node.daemon.config), "check", *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def test_what_makes_room_works(full: Full) -> None:
    node = full.node
    pod, other = node.pod(), node.pod()
    running, ended, kept = pod.sleeper(), pod.run("true"), other.sleeper()
    node.cri.wait_exited(ended)
    full.fill()
    node.daemon.kill()
    full.fill()
    node.daemon.start()
    assert set(node.cri.containers()) == {running, ended, kept}
    looked = check(node)
    assert (looked.returncode, looked.stdout) == (0, ""), looked
    for verb in (
        lambda: node.cri.remove(ended),
        lambda: node.cri.stop(running, timeout=0),
        lambda: node.cri.remove(running),
        lambda: node.cri.stop_pod(pod.id),
        lambda: node.cri.remove_pod(pod.id),
        lambda: node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=full.other_image))),
    ):
        full.fill()
        verb()
    full.fill()
    node.daemon.kill()
    full.fill()
    repaired = check(node, "--repair")
    assert repaired.returncode == 0, repaired
    node.daemon.start()
    assert node.cri.containers() == [kept]
    assert node.cri.status(kept).state == cri.CONTAINER_RUNNING
    full.disk.make_room()
    assert pod.node.pod().printed("echo", "room") == "room"
    node.clean()
    assert check(node).returncode == 0
