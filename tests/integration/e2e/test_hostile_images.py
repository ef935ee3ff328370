"""What an image, or a container, has in its files to harm the node with, in a container that runs."""

import tarfile
from collections.abc import Iterator

import pytest

from crid.cri import api_pb2 as cri
from crid.store.verify import verify
from scripts import small_image
from tests.harness.layers import entry, image, layer, write_layout
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.integration.e2e.test_user_namespaces import security, userns

KMSG = (1, 11)


@pytest.fixture(scope="package")
def hostile(registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of an image with devices that anybody may open."""
    base = small_image._layer(small_image._files(small_image.BUSYBOX.read_bytes()))
    evil = layer(
        entry("kmsg", tarfile.CHRTYPE, mode=0o666, device=KMSG),
        entry("disk", tarfile.BLKTYPE, mode=0o666, device=(8, 0)),
        entry("memory", tarfile.CHRTYPE, mode=0o666, device=(1, 1)),
    )  # fmt: skip
    layout = write_layout(tmp_path_factory.mktemp("hostile") / "layout", image([base, evil]))
    return registry.push(layout, "test/hostile:latest")


@pytest.fixture
def pulled(shared_node: Node, hostile: str) -> Iterator[str]:
    """The image, pulled before the node is looked at; it can be removed again, and the store is whole."""
    yield shared_node.cri.pull(hostile)
    shared_node.cri.image.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=hostile)))
    assert [str(finding) for finding in verify(shared_node.daemon.root)] == []


@pytest.mark.parametrize("mapped", [False, True])
def test_devices_in_an_image_cannot_be_opened(pulled: str, node: Node, mapped: bool) -> None:
    pod = node.pod(options=userns()) if mapped else node.pod()
    options = {"security": security(userns())} if mapped else {}
    script = "for name in kmsg disk memory; do test -e /$name && ! head -c 1 /$name || exit 1; done"
    config = node.container_config("sh", "-c", script, **options)
    config.image.image = pulled
    container = node.cri.create(pod.id, config, pod.config)
    node.cri.start(container)
    assert node.cri.wait_exited(container).exit_code == 0
    refusals = [line.text for line in pod.log(container) if line.stream == "stderr"]
    assert len(refusals) == 3
    assert all("Operation not permitted" in line or "Permission denied" in line for line in refusals)


def test_a_tree_deeper_than_a_path_is_long_is_removed_with_its_container(node: Node) -> None:
    pod = node.pod()
    script = "i=0; while [ $i -lt 1500 ]; do mkdir directory && cd directory && : > f; i=$((i+1)); done"
    container = pod.run("sh", "-c", script)
    assert node.cri.wait_exited(container).exit_code == 0
    node.cri.runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=container))
    assert verify(node.daemon.root, contents=False) == []
