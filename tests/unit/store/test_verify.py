import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crid.model.image import Image, ImageProcess
from crid.store.content import ContentStore
from crid.store.images import ImageContent, ImageStore
from crid.store.layers import LayerStore
from crid.store.verify import verify

pytestmark = pytest.mark.root

LOW, HIGH = (f"sha256:{digit * 64}" for digit in "12")


class Stores:
    """A store with one image of two layers, and a snapshot on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content, self.layers = ContentStore(root), LayerStore(root)
        self.images = ImageStore(self.content)
        self.load()
        self.add_layer(LOW, "")
        self.add_layer(HIGH, LOW)
        self.image = self.add("a", "q.io/a:1")
        self.layers.prepare("c1", [LOW, HIGH])

    def load(self) -> None:
        for store in (self.content, self.layers, self.images):
            store.load()

    def add_layer(self, chain_id: str, parent: str) -> None:
        with self.layers.stage() as staged:
            for name in ("f", "g"):
                (staged / "diff" / name).write_text(name)
            os.link(staged / "diff/f", staged / "diff/h")
            self.layers.commit(staged, chain_id, parent, size=10, inodes=2, implied=())

    def add(self, word: str, *tags: str) -> Image:
        config, manifest, blob = (self.content.add(kind, f"{kind} {word}".encode()) for kind in ("config", "manifest", "layer"))
        image = Image(config.digest, tags, (), 9, ImageProcess(), (LOW, HIGH), manifest.digest)
        return self.images.put(image, ImageContent(manifest, (blob.digest,)))

    @property
    def record(self) -> Path:
        return self.root / "images/records" / f"{self.image.id[7:]}.json"

    def blob(self, digest: str) -> Path:
        return self.root / "images/blobs/sha256" / digest[7:]


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path)


def test_a_good_store_and_none_at_all(stores: Stores, tmp_path: Path) -> None:
    assert verify(stores.root) == []
    assert verify(tmp_path / "nothing") == []


def torn_blob(stores: Stores) -> None:
    path = stores.blob(stores.image.manifest_digest)
    path.write_bytes(path.read_bytes()[:-1])


def lost_blob(stores: Stores) -> None:
    stores.blob(stores.image.manifest_digest).unlink()


def stray_blob(stores: Stores) -> None:
    (stores.root / "images/blobs/sha256/x").touch()


def damaged_record(stores: Stores) -> None:
    stores.record.write_text("{")


def renamed_record(stores: Stores) -> None:
    stores.record.rename(stores.record.with_stem("0" * 64))


def lost_layer(stores: Stores) -> None:
    shutil.rmtree(stores.root / "layers" / HIGH[7:])


def half_a_layer(stores: Stores) -> None:
    (stores.layers.diff(HIGH) / "g").unlink()


def layer_record(stores: Stores) -> None:
    (stores.root / "layers" / HIGH[7:] / "record.json").write_text("[]")


def other_parent(stores: Stores) -> None:
    path = stores.root / "layers" / HIGH[7:] / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parent": ""}))


def snapshot_record(stores: Stores) -> None:
    (stores.root / "snapshots/c1/record.json").write_text("{}")


def snapshot_without_upper(stores: Stores) -> None:
    (stores.root / "snapshots/c1/upper").rmdir()


def set_aside(stores: Stores) -> None:
    (stores.root / "layers/damaged-0-x").mkdir()


def record_set_aside(stores: Stores) -> None:
    (stores.root / "images/records/x.damaged-00").touch()


DAMAGES: dict[Callable[[Stores], None], list[str]] = {
    torn_blob: ["its content has the digest sha256:"],
    lost_blob: ["its blob sha256:", "is missing"],
    stray_blob: ["sha256/x: is no blob"],
    damaged_record: ["cannot be read: "],
    renamed_record: ["describes sha256:"],
    lost_layer: [f"its layer {HIGH} is missing"],
    half_a_layer: [f"{HIGH[7:]}: holds 1 inodes, 2 were unpacked"],
    layer_record: ["its record cannot be read"],
    other_parent: [f"its layer {HIGH} stands on nothing, not on {LOW}"],
    snapshot_record: ["c1: its record cannot be read"],
    snapshot_without_upper: ["c1: has no directory upper"],
    set_aside: ["was set aside as damaged"],
    record_set_aside: ["was set aside as damaged"],
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found(stores: Stores, damage: Callable[[Stores], None]) -> None:
    damage(stores)
    found = [str(finding) for finding in verify(stores.root) if not finding.mended_at_start]
    assert any(all(word in finding for word in DAMAGES[damage]) for finding in found), found


def test_what_takes_long_can_be_left_out(stores: Stores) -> None:
    torn_blob(stores)
    half_a_layer(stores)
    assert len(verify(stores.root)) == 2
    assert verify(stores.root, contents=False) == []


def arriving_blob(stores: Stores) -> None:
    (stores.root / "images/ingest/0").touch()


def staged_layer(stores: Stores) -> None:
    (stores.root / "layers/staging/0/diff").mkdir(parents=True)


def unfinished_record(stores: Stores) -> None:
    (stores.root / f"images/records/.{stores.record.name}.0").touch()


def lost_link(stores: Stores) -> None:
    (stores.root / "layers/l" / HIGH[7:19]).unlink()


def link_to_nothing(stores: Stores) -> None:
    (stores.root / "layers/l/333").symlink_to("../333/diff")


def lost_index(stores: Stores) -> None:
    (stores.root / "images/index.json").unlink()


def late_index(stores: Stores) -> None:
    stores.content.write_index([])


def half_a_snapshot(stores: Stores) -> None:
    (stores.root / "snapshots/c2").mkdir()


def layer_without_its_link(stores: Stores) -> None:
    """A removal that was stopped between its two steps, of a layer that nothing needs."""
    stores.add_layer("sha256:" + "3" * 64, "")
    (stores.root / "layers/l" / ("3" * 12)).unlink()


def name_of_two(stores: Stores) -> None:
    other = stores.add("b")
    stores.images._write(replace(other, repo_tags=stores.image.repo_tags), stores.images.contents()[other.id])


INTERRUPTIONS = [
    arriving_blob, staged_layer, unfinished_record, lost_link, link_to_nothing, lost_index, late_index, half_a_snapshot,
    layer_without_its_link, name_of_two,
]  # fmt: skip


@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=lambda interruption: interruption.__name__)
def test_what_an_interruption_leaves_is_gone_after_a_start(stores: Stores, interruption: Callable[[Stores], None]) -> None:
    interruption(stores)
    found = verify(stores.root)
    assert found
    assert all(finding.mended_at_start for finding in found), found
    stores.load()
    assert verify(stores.root) == []
    assert stores.images.named("q.io/a:1") is not None
