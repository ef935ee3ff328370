"""A node for each runtime, and what the tests of streams ask of it."""

from collections.abc import Iterator

import pytest

from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.conftest import image, node, registry, require_runtime, shared_node

__all__ = ["image", "node", "registry", "shared_node"]


@pytest.fixture(scope="package")
def crun_node(registry: LocalRegistry, image: str) -> Iterator[Node]:
    """One daemon with crun, for what does not depend on the runtime."""
    require_runtime("crun")
    with Daemon(Settings(default_runtime="crun", registries_conf=registry.registries_conf())) as daemon:
        node = Node(daemon, daemon.cri.pull(image))
        yield node
        node.clean()
