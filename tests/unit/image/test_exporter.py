import tarfile
from pathlib import Path

import pytest

from crid.errors import NotFoundError
from crid.image.exporter import export
from tests.harness.image_bench import Bench
from tests.harness.layers import file, image, layer

pytestmark = pytest.mark.root


@pytest.mark.parametrize("form", ["oci", "docker"])
async def test_what_is_exported_is_imported(bench: Bench, tmp_path: Path, form: str) -> None:
    made = image([layer(file("a")), layer(file("b")), layer(file("a"))], form=form)
    reference = bench.registry.add("a", made, "v1")
    pulled = await bench.service.pull(reference)
    path = tmp_path / "out.tar"
    assert export([bench.root], [reference], path) == reference
    assert export([bench.root], [pulled.id[7:20]], tmp_path / "by-id.tar")
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names)) == 2 + 1 + 1 + 2  # a layer that is there twice is one blob
    await bench.service.remove(reference)
    imported = await bench.service.import_path(path)
    assert [(one.id, one.repo_tags) for one in imported] == [(made.id, (reference,))]


async def test_nothing_is_written_for_nothing(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "out.tar"
    for names in (["q.io/gone:1"], ["abcdef"]):
        with pytest.raises(NotFoundError):
            export([bench.root], names, path)
    reference = bench.registry.add("a", image([layer(file("a"))]))
    await bench.service.pull(reference)
    blobs = list((bench.root / "images/blobs/sha256").iterdir())
    blobs[0].unlink()
    with pytest.raises(NotFoundError):
        export([bench.root], [reference], path)
    assert [one.name for one in tmp_path.iterdir() if "out.tar" in one.name] == []
