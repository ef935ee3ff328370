"""crid's images against other people's programs: Debian's docker-registry, skopeo, the kernel's overlayfs."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from crid.image.exporter import export
from crid.image.service import ImageService
from crid.linux import mount
from crid.store.verify import verify
from crid.tasks import Supervisor
from tests.harness.layers import directory, file, hardlink, image, layer, symlink, write_layout
from tests.harness.registry import LocalRegistry
from tests.harness.tools import require_tool

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry") / "data") as local:
        yield local


@pytest.fixture
async def service(tmp_path: Path, registry: LocalRegistry) -> AsyncIterator[ImageService]:
    conf = tmp_path / "registries.conf"
    conf.write_text(registry.registries_conf())
    supervisor = Supervisor("test")
    made = ImageService(tmp_path / "root", conf, supervisor)
    made.load()
    yield made
    await supervisor.close(5)
    await made.close()


def skopeo(*argv: str) -> str:
    return subprocess.run([require_tool("skopeo"), *argv], check=True, capture_output=True, text=True).stdout


MADE = image(
    [
        layer(directory("etc"), file("etc/a", b"one"), file("etc/b", b"one"), file("setuid", b"x", mode=0o4755, uid=5)),
        layer(file("etc/b", b"two"), file("etc/.wh.a"), symlink("link", "/etc/b"), hardlink("hard", "link")),
    ]
)


async def test_pull_mount_and_read_by_skopeo(service: ImageService, registry: LocalRegistry, tmp_path: Path) -> None:
    reference = registry.push(write_layout(tmp_path / "layout", MADE), "crid/test:v1")
    found = await service.pull(reference)
    assert found.id == MADE.id
    snapshot = service.prepare_rootfs("c1", found)
    mount.perform(snapshot.mount)
    try:
        root = Path(snapshot.mount.target)
        assert sorted(path.name for path in root.iterdir()) == ["etc", "hard", "link", "setuid"]
        assert [path.name for path in (root / "etc").iterdir()] == ["b"]
        assert (root / "etc/b").read_bytes() == b"two"
        assert (root / "setuid").stat().st_mode & 0o7777 == 0o4755
    finally:
        mount.unmount(snapshot.mount.target)
    await service.release_rootfs("c1")
    for name in (reference, *found.repo_digests):
        shown = json.loads(skopeo("inspect", f"oci:{tmp_path / 'root/images'}:{name}"))
        assert (shown["Digest"], shown["Layers"]) == (MADE.digest, MADE.layers)
    skopeo("copy", "--quiet", f"oci:{tmp_path / 'root/images'}:{reference}", f"dir:{tmp_path / 'copied'}")
    assert (tmp_path / "copied/manifest.json").read_bytes() == MADE.manifest


async def test_docker_manifests_are_readable_by_skopeo_too(
    service: ImageService, registry: LocalRegistry, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "layout", MADE)
    reference = f"{registry.address}/crid/docker:v1"
    skopeo("copy", "--quiet", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{reference}")
    found = await service.pull(reference)
    shown = json.loads(skopeo("inspect", f"oci:{tmp_path / 'root/images'}:{reference}"))
    # The index shows an OCI manifest over the same blobs; the image is known by the one that the registry sent.
    assert shown["Layers"] == MADE.layers
    assert found.repo_digests == (f"{registry.address}/crid/docker@{found.manifest_digest}",)
    assert shown["Digest"] != found.manifest_digest


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
async def test_import_of_what_skopeo_writes(service: ImageService, tmp_path: Path, kind: str) -> None:
    layout = write_layout(tmp_path / "layout", MADE)
    skopeo("copy", "--quiet", f"oci:{layout}:latest", f"{kind}:{tmp_path / 'copy'}:q.io/made:v2")
    (found,) = await service.import_path(tmp_path / "copy")
    assert (found.id, found.repo_tags) == (MADE.id, ("q.io/made:v2",))
    assert len(found.chain_ids) == 2


async def test_an_image_whose_parts_are_called_by_sha512(
    service: ImageService, registry: LocalRegistry, tmp_path: Path
) -> None:
    """From docker-registry, and again from an archive of it. (skopeo 1.9 neither pushes nor inspects one.)"""
    made = image([layer(file("a", b"one")), layer(file("b", b"two"))], algorithm="sha512")
    reference = registry.put(made, "crid/sha512:v1")
    found = await service.pull(reference)
    assert (found.id, len(found.id)) == (made.id, len("sha512:") + 128)
    export([tmp_path / "root"], [reference], tmp_path / "a.tar")
    await service.remove(reference)
    assert service.list_images() == []
    assert [one.id for one in await service.import_path(tmp_path / "a.tar")] == [made.id]
    assert verify(tmp_path / "root") == []
