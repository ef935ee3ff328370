"""Trees deeper than Python recurses, wherever they come in: they go again, and a start after a kill is not stopped by one."""

from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError
from crid.image.service import ImageService
from crid.store.verify import verify
from tests.harness.image_bench import Bench
from tests.harness.layers import file, image, layer, symlink

pytestmark = pytest.mark.root

DEEP = [file("dir/" * 1000 + "f", b"x"), symlink("l", "dir/" * 1000), file("l/" + "dir/" * 500 + "g")]


async def test_pulled_refused_and_removed(bench: Bench) -> None:
    reference = bench.registry.add("a", image([layer(*DEEP)]))
    for _ in range(2):
        found = await bench.service.pull(reference)
        assert verify(bench.root) == []
        await bench.service.remove(found.id)
        assert bench.files() == []
    with pytest.raises(InvalidArgumentError, match=r"layer member '\.\./evil'"):
        await bench.service.pull(bench.registry.add("b", image([layer(*DEEP, file("../evil"))])))
    assert bench.files() == []


async def test_what_a_kill_left_of_one(bench: Bench, tmp_path: Path) -> None:
    found = await bench.service.pull(bench.registry.add("a", image([layer(*DEEP)])))
    half = bench.root / "layers/staging/0"
    (bench.root / "layers" / found.chain_ids[0][7:]).rename(half)
    again = ImageService(bench.root, bench.conf, bench.supervisor)
    again.load()
    assert not half.exists()
    assert again.list_images() == []
    await again.close()


async def test_an_archive_of_one(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "deep.tar").write_bytes(layer(*DEEP))
    with pytest.raises(InvalidArgumentError, match="has neither"):
        await bench.service.import_path(tmp_path / "deep.tar")
    assert list((bench.root / "images/ingest").iterdir()) == []
