"""OCI artifacts: pulled, laid out as files, named and removed like images."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crid.config import ImageConfig
from crid.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from crid.image import artifact as artifacts
from crid.image.exporter import export
from crid.image.limits import LayerLimits
from crid.image.manifest import Manifest, parse_manifest
from crid.image.service import ImageService
from tests.harness.image_bench import Bench
from tests.harness.layers import MadeImage, artifact, digest_of, file, image, layer, write_layout

pytestmark = pytest.mark.root

MODEL = artifact(("model/weights.bin", b"w" * 5000), ("model/config.json", b"{...}"), (None, b"untitled"))


def shown(service: ImageService, reference: str) -> dict[str, bytes]:
    """Return the files that a container would see of the artifact, by path."""
    found = service.mountable(reference)
    root = Path(service.view(found, "/target").source).resolve()
    assert all(path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o444) for path in root.rglob("*"))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_files_by_title_or_digest(bench: Bench) -> None:
    reference = bench.registry.add("models/a", MODEL, "v1")
    found = await bench.service.pull(reference)
    assert (found.id, found.artifact_type, found.repo_tags) == (MODEL.digest, "application/vnd.example.model", (reference,))
    assert found.repo_digests == (f"{bench.registry.address}/models/a@{MODEL.digest}",)
    assert found.size == len(MODEL.manifest) + sum(map(len, MODEL.blobs.values()))
    assert shown(bench.service, reference) == {
        "model/weights.bin": b"w" * 5000,
        "model/config.json": b"{...}",
        digest_of(b"untitled")[7:]: b"untitled",
    }
    assert f"/v2/models/a/blobs/{artifacts.EMPTY_DIGEST}" not in bench.registry.paths()  # it is known
    assert bench.service.fs_usage().used_bytes == found.size  # nothing is there twice
    bench.registry.requests.clear()
    assert await bench.service.pull(reference) == found
    assert bench.registry.paths() == ["/v2/models/a/manifests/v1"]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (artifact(("f", b"x"), artifact_type="", config=("application/vnd.cncf.helm.config.v1+json", b'{"name":"x"}')), "helm"),
        (artifact(("f", b"x"), config=("application/vnd.oci.image.config.v1+json", b"{}")), "example"),
        (artifact(("f", b"x"), artifact_type=""), "empty"),
    ],
)
async def test_what_makes_an_artifact(bench: Bench, made: MadeImage, kind: str) -> None:
    """A configuration that is not an image's, or a type."""
    reference = bench.registry.add("a", made)
    assert kind in (await bench.service.pull(reference)).artifact_type
    assert shown(bench.service, reference) == {"f": b"x"}
    with pytest.raises(FailedPreconditionError, match=f"OCI artifact of type .*{kind}.*nothing can run from it"):
        bench.service.runnable(reference)


async def test_it_goes_and_stays_as_an_image_does(bench: Bench) -> None:
    reference = bench.registry.add("models/a", MODEL)
    base = bench.registry.add("base", image([layer(file("f"))]))
    await bench.service.pull(reference)
    await bench.service.pull(base)
    bench.service.prepare_rootfs("c1", bench.service.runnable(base), volumes=[bench.service.mountable(reference)])
    seen = shown(bench.service, reference)
    root = Path(bench.service.view(bench.service.resolve(reference), "/t").source).resolve()
    for name in (MODEL.digest[7:20], reference, base):
        with pytest.raises(FailedPreconditionError, match="is in use by container c1"):
            await bench.service.remove(name)
    assert (root / "model/weights.bin").read_bytes() == seen["model/weights.bin"]
    await bench.service.release_rootfs("c1")
    await bench.service.remove(MODEL.digest[7:20])
    assert bench.service.status(reference) is None
    await bench.service.remove(base)
    assert bench.files() == []


async def test_a_restart_finds_it(bench: Bench) -> None:
    reference = bench.registry.add("models/a", MODEL)
    await bench.service.pull(reference)
    again = ImageService(bench.root, bench.conf, bench.supervisor)
    again.load()
    assert again.list_images() == bench.service.list_images()
    assert shown(again, reference) == shown(bench.service, reference)
    await again.close()


async def test_an_index_may_hold_one(bench: Bench) -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": MODEL.media_type, "digest": MODEL.digest, "size": len(MODEL.manifest)}],
    }
    bench.registry.add("models/a", MODEL, "plain")
    reference = bench.registry.add("models/a", MadeImage(str(document["mediaType"]), json.dumps(document).encode()), "index")
    found = await bench.service.pull(reference)
    assert found.id == MODEL.digest
    assert found.repo_digests == (f"{bench.registry.address}/models/a@{digest_of(json.dumps(document).encode())}",)


async def test_export_and_import(bench: Bench, tmp_path: Path) -> None:
    reference = bench.registry.add("models/a", MODEL)
    await bench.service.pull(reference)
    before = shown(bench.service, reference)
    assert export([bench.root], [MODEL.digest[7:19]], tmp_path / "out.tar") == reference
    await bench.service.remove(reference)
    [found] = await bench.service.import_path(tmp_path / "out.tar")
    assert (found.id, found.repo_tags) == (MODEL.digest, (reference,))
    assert shown(bench.service, reference) == before
    await bench.service.remove(reference)
    [found] = await bench.service.import_path(write_layout(tmp_path / "layout", MODEL), "q.io/model:1")
    assert shown(bench.service, "q.io/model:1") == before


async def test_the_same_file_is_there_once(bench: Bench) -> None:
    for number in range(3):
        await bench.service.pull(bench.registry.add(f"a{number}", artifact(("f", b"x" * 9000), (f"copy{number}", b"x" * 9000))))
    blobs = list((bench.root / "images/blobs/sha256").iterdir())
    assert sum(path.stat().st_size == 9000 for path in blobs) == 1
    assert next(path for path in blobs if path.stat().st_size == 9000).stat().st_nlink == 7


def parsed(made: MadeImage) -> Manifest:
    manifest = parse_manifest(made.manifest)
    assert isinstance(manifest, Manifest)
    return manifest


@pytest.mark.parametrize("title", ["a", "a/b", "./a", "a//b", "ü/ñ", "..a", "a b", "-", "x" * 255])
def test_titles_that_are_paths(title: str) -> None:
    assert len(artifacts.files(parsed(artifact((title, b"x"))), LayerLimits())) == 1


@pytest.mark.parametrize(
    "title", ["..", ".", "/etc/passwd", "a/../b", "../a", "a\0b", "a\nb", "x" * 256, "a/" * 2000 + "a", "\ud800"]
)
async def test_titles_that_are_refused(bench: Bench, title: str) -> None:
    with pytest.raises((InvalidArgumentError, DataLossError), match="title"):
        await bench.service.pull(bench.registry.add("a", artifact((title, b"x"))))
    assert bench.files() == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a", "a", "another one has the title"),
        ("a/b", "./a/b", "another one"),
        ("a", "a/b", "directory"),
        ("a/b/c", "a", "directory"),
    ],
)
async def test_titles_that_collide(bench: Bench, first: str, second: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        await bench.service.pull(bench.registry.add("a", artifact((first, b"1"), (second, b"2"))))
    assert bench.files() == []


def test_limits() -> None:
    manifest = parsed(artifact(("a", b"x" * 10), ("b", b"y" * 10)))
    artifacts.files(manifest, LayerLimits(size=20, entries=2))
    with pytest.raises(InvalidArgumentError, match="layer_size_limit is 19"):
        artifacts.files(manifest, LayerLimits(size=19))
    with pytest.raises(InvalidArgumentError, match="layer_entries_limit is 1"):
        artifacts.files(manifest, LayerLimits(entries=1))


@pytest.fixture
async def forbidding(bench: Bench) -> AsyncIterator[ImageService]:
    made = ImageService(bench.root, bench.conf, bench.supervisor, settings=ImageConfig(oci_artifact_mount_support=False))
    made.load()
    yield made
    await made.close()


async def test_mounting_can_be_forbidden(bench: Bench, forbidding: ImageService) -> None:
    reference, base = bench.registry.add("a", MODEL), bench.registry.add("base", image([layer(file("f"))]))
    await forbidding.pull(reference)
    await forbidding.pull(base)
    with pytest.raises(FailedPreconditionError, match="oci_artifact_mount_support"):
        forbidding.mountable(reference)
    assert forbidding.mountable(base).id == forbidding.runnable(base).id
