import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crid.errors import CridError, DataLossError, InvalidArgumentError, NotFoundError
from tests.harness.image_bench import Bench
from tests.harness.layers import MadeImage, directory, file, image, index, layer, symlink

pytestmark = pytest.mark.root

MADE = image([layer(file("a", b"1")), layer(file("b", b"2"))])
NAME = "org.opencontainers.image.ref.name"


def write_layout(where: Path, *images: tuple[MadeImage, str]) -> Path:
    blobs = where / "blobs/sha256"
    blobs.mkdir(parents=True)
    entries = []
    for made, name in images:
        for digest, content in {**made.blobs, made.digest: made.manifest}.items():
            (blobs / digest[7:]).write_bytes(content)
        annotations = {"annotations": {NAME: name}} if name else {}
        entries.append({"mediaType": made.media_type, "digest": made.digest, "size": len(made.manifest), **annotations})
    (where / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (where / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return where


def tarred(where: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as archive:
        archive.add(where, ".")
    return target


def docker_archive(
    target: Path, *tags: str, layers: tuple[bytes, ...] = (layer(file("a", b"1")), layer(file("b", b"2")))
) -> Path:
    made = image(list(layers), compression="")
    entries = [file("c.json", made.blobs[made.id])]
    names = []
    for number, content in enumerate(layers):
        names.append(f"l{number}/layer.tar")
        entries += [directory(f"l{number}"), file(names[-1], content)]
    manifest = [{"Config": "c.json", "RepoTags": list(tags) or None, "Layers": names}]
    target.write_bytes(layer(*entries, file("manifest.json", json.dumps(manifest).encode())))
    return target


async def test_an_oci_layout_as_directory_tar_and_compressed_tar(bench: Bench, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", (MADE, "q.io/a:1"))
    archive = tarred(layout, tmp_path / "layout.tar")
    (tmp_path / "layout.tar.gz").write_bytes(gzip.compress(archive.read_bytes()))
    for path in (layout, archive, tmp_path / "layout.tar.gz"):
        (found,) = await bench.service.import_path(path)
        assert (found.id, found.repo_tags, found.repo_digests) == (MADE.id, ("q.io/a:1",), ())
        await bench.service.remove(found.id)
        assert bench.files() == []


async def test_a_docker_archive(bench: Bench, tmp_path: Path) -> None:
    (found,) = await bench.service.import_path(docker_archive(tmp_path / "d.tar", "busybox:1", "q.io/b:2"))
    assert found.repo_tags == ("docker.io/library/busybox:1", "q.io/b:2")
    assert len(found.chain_ids) == 2
    (again,) = await bench.service.import_path(docker_archive(tmp_path / "e.tar"), "q.io/c:3")
    assert (again.id, again.repo_tags) == (found.id, (*found.repo_tags, "q.io/c:3"))


async def test_several_images_and_an_index(bench: Bench, tmp_path: Path) -> None:
    other = image([layer(file("other"))])
    both = index((MADE, "amd64", ""), (MADE, "arm64", ""))
    both.blobs = {**MADE.blobs, MADE.digest: MADE.manifest}
    layout = write_layout(tmp_path / "layout", (both, "q.io/a:1"), (other, "latest"), (MADE, "q.io/a:2"))
    found = await bench.service.import_path(layout)
    assert {one.id: one.repo_tags for one in found} == {MADE.id: ("q.io/a:1", "q.io/a:2"), other.id: ()}
    with pytest.raises(InvalidArgumentError, match="2 images, not one"):
        await bench.service.import_path(layout, "q.io/x")


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda layout: (layout / "index.json").unlink(), InvalidArgumentError),
        (lambda layout: (layout / "index.json").write_text("{"), DataLossError),
        (lambda layout: (layout / "blobs/sha256" / MADE.digest[7:]).unlink(), NotFoundError),
        (lambda layout: (layout / "blobs/sha256" / MADE.digest[7:]).write_text("{}"), DataLossError),
        (lambda layout: (layout / "blobs/sha256" / MADE.id[7:]).write_text("{}"), InvalidArgumentError),
        (lambda layout: (layout / "blobs/sha256" / MADE.layers[1][7:]).write_bytes(b"x"), DataLossError),
        (lambda layout: (layout / "blobs/sha256" / MADE.layers[1][7:]).unlink(), NotFoundError),
    ],
)
async def test_damaged_layouts_leave_nothing(
    bench: Bench, tmp_path: Path, spoil: Callable[[Path], object], kind: type[CridError]
) -> None:
    layout = write_layout(tmp_path / "layout", (MADE, "q.io/a:1"))
    spoil(layout)
    with pytest.raises(kind):
        await bench.service.import_path(layout)
    assert bench.files() == []


async def test_an_archive_cannot_make_us_read_a_file_of_the_host(bench: Bench, tmp_path: Path) -> None:
    for target in ("/etc/passwd", "../" * 20 + "etc/passwd"):
        layout = write_layout(tmp_path / f"layout{len(target)}", (MADE, "q.io/a:1"))
        blob = layout / "blobs/sha256" / MADE.layers[0][7:]
        blob.unlink()
        blob.symlink_to(target)
        with pytest.raises(InvalidArgumentError, match="archive: "):
            await bench.service.import_path(layout)
    manifest = json.dumps([{"Config": "../../../../../etc/passwd", "Layers": []}]).encode()
    (tmp_path / "d.tar").write_bytes(layer(file("manifest.json", manifest)))
    with pytest.raises((InvalidArgumentError, NotFoundError)):
        await bench.service.import_path(tmp_path / "d.tar")
    (tmp_path / "e.tar").write_bytes(layer(symlink("manifest.json", "/dev/zero")))
    with pytest.raises(CridError):
        await bench.service.import_path(tmp_path / "e.tar")
    assert bench.files() == []


async def test_what_is_not_there(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="gone"):
        await bench.service.import_path(tmp_path / "gone")
    (tmp_path / "junk").write_bytes(io.BytesIO(b"junk" * 1000).getvalue())
    with pytest.raises(DataLossError):
        await bench.service.import_path(tmp_path / "junk")
    with pytest.raises(InvalidArgumentError):
        await bench.service.import_path(tmp_path / "junk", "UPPER CASE")
