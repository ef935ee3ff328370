"""A node a runtime for the whole directory; after each test it must be as it was before: nothing is left behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import small_image
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import require_tool

HYBRID = Path("/sys/fs/cgroup/unified")


def require_runtime(name: str) -> None:
    """Skip the test unless the OCI runtime `name` can run here."""
    require_tool(name)
    if name == "crun" and (HYBRID / "cgroup.procs").exists():
        pytest.skip(f"crun refuses a hybrid cgroup host while {HYBRID} is mounted; scripts/test hides it")


@pytest.fixture(scope="package")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A registry that holds `test/busybox:latest`."""
    directory = tmp_path_factory.mktemp("registry")
    small_image.write_layout(directory / "layout")
    with LocalRegistry(directory / "registry") as registry:
        registry.push(directory / "layout", "test/busybox:latest")
        yield registry


@pytest.fixture(scope="package")
def image(registry: LocalRegistry) -> str:
    """The reference of the small image in the registry."""
    return f"{registry.address}/test/busybox:latest"


@pytest.fixture(scope="package", params=["crun", "runc"])
def shared_node(request: pytest.FixtureRequest, registry: LocalRegistry, image: str) -> Iterator[Node]:
    """One daemon with this runtime as its default, with the image pulled and a first pod run, which makes the bridge."""
    require_runtime(request.param)
    with Daemon(Settings(default_runtime=request.param, registries_conf=registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        pod = node.pod()
        pod.printed("true")
        node.cri.exec(pod.sleeper(), ["true"])
        node.clean()
        yield node


@pytest.fixture
def node(shared_node: Node) -> Iterator[Node]:
    """The shared node; when the test is over its pods are removed, and no trace of them may remain."""
    before = shared_node.daemon.footprint()
    yield shared_node
    shared_node.clean()
    assert shared_node.daemon.left_since(before) == {}


@pytest.fixture
def own_node(registry: LocalRegistry, image: str) -> Iterator[Node]:
    """A node for a test that ends or damages its daemon: crun where it works, as the daemon itself chooses."""
    with Daemon(Settings(registries_conf=registry.registries_conf())) as daemon:
        yield Node(daemon, daemon.cri.pull(image))
