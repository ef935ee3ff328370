import errno
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.linux.files import write_atomic
from crid.model.image import Image, ImageProcess
from crid.store.content import ContentStore
from crid.store.images import ImageContent, ImageStore
from crid.store.records import VERSION
from tests.unit.store import samples

A1, A2, ADIGEST = "q.io/a:1", "q.io/a:2", "q.io/a@sha256:" + "0" * 64


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    store = ContentStore(tmp_path)
    store.load()
    return store


@pytest.fixture
def images(content: ContentStore) -> ImageStore:
    store = ImageStore(content)
    store.load()
    return store


def made(content: ContentStore, word: str, *tags: str, digests: tuple[str, ...] = ()) -> tuple[Image, ImageContent]:
    config = content.add("config", f"config {word}".encode())
    manifest = content.add("manifest", f"manifest {word}".encode())
    layer = content.add("layer", f"layer {word}".encode())
    process = ImageProcess("u", ("A=1",), ("e",), ("c",), "/w", "TERM", ("/v",), {"k": "v"})
    image = Image(config.digest, tags, digests, 99, process, ("chain",), manifest.digest)
    return image, ImageContent(manifest, (layer.digest,))


def test_records_survive_a_restart(images: ImageStore, content: ContentStore) -> None:
    image, blobs = made(content, "a", A1, digests=(ADIGEST,))
    assert images.put(image, blobs) == image
    again = ImageStore(content)
    again.load()
    assert again.all() == [image]
    assert again.contents() == {image.id: blobs}
    for found in (again.get(image.id), again.named(A1), again.named(ADIGEST), again.with_prefix(image.id[7:12])):
        assert found == image
    assert again.get("sha256:x") is again.named("x") is again.with_prefix("0" * 63) is None


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_records_of_every_version_are_read(tmp_path: Path, version: int) -> None:
    image, blobs = samples.IMAGE, samples.CONTENT
    for directory in ("images/records", "images/blobs/sha256"):
        (tmp_path / directory).mkdir(parents=True)
    for digest in (image.id, blobs.manifest.digest, *blobs.blobs):
        (tmp_path / "images/blobs/sha256" / digest.removeprefix("sha256:")).touch()
    record = tmp_path / "images/records" / f"{image.id.removeprefix('sha256:')}.json"
    record.write_bytes((samples.SAMPLES / f"v{version}" / "image.json").read_bytes())
    store = ImageStore(content := ContentStore(tmp_path))
    content.load()
    store.load()
    assert (store.all(), store.contents()) == ([image], {image.id: blobs})


def test_a_newer_record_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageStore(content := ContentStore(tmp_path))
    content.load()
    store.load()
    with monkeypatch.context() as patch:
        patch.setattr("crid.store.records.VERSION", VERSION + 1)
        store.put(*made(content, "a", A1))
    before = {path: path.read_bytes() for path in (tmp_path / "images/records").iterdir()}
    with pytest.raises(FailedPreconditionError, match="of a newer crid"):
        ImageStore(content).load()
    assert {path: path.read_bytes() for path in (tmp_path / "images/records").iterdir()} == before


def test_names_add_up(images: ImageStore, content: ContentStore) -> None:
    image, blobs = made(content, "a", A1)
    images.put(image, blobs)
    both = images.put(replace(image, repo_tags=(A2,)), blobs)
    assert both.repo_tags == (A1, A2)
    assert images.all() == [both]


def test_a_name_in_two_records_belongs_to_the_later_one(images: ImageStore, content: ContentStore) -> None:
    """A daemon that ends between the two writes of a tag that moves leaves them so."""
    old, old_blobs = made(content, "old", A1, A2)
    new, new_blobs = made(content, "new", A1)
    for image, blobs, when in ((old, old_blobs, 1), (new, new_blobs, 2)):
        images._write(image, blobs)
        os.utime(content.directory / "records" / f"{image.id[7:]}.json", (when, when))
    for _ in range(2):
        again = ImageStore(content)
        again.load()
        assert again.named(A1) == new
        assert again.named(A2) == again.get(old.id) == replace(old, repo_tags=(A2,))


def test_a_tag_that_moves_leaves_the_old_image_without_it(images: ImageStore, content: ContentStore) -> None:
    old, old_blobs = made(content, "old", A1, A2, digests=(ADIGEST,))
    new, new_blobs = made(content, "new", A1)
    images.put(old, old_blobs)
    images.put(new, new_blobs)
    for store in (images, ImageStore(content)):
        if store is not images:
            store.load()
        assert store.named(A1) == new
        assert store.named(A2) == store.get(old.id) == replace(old, repo_tags=(A2,))


def test_removal_takes_all_names(images: ImageStore, content: ContentStore) -> None:
    image, blobs = made(content, "a", A1, A2)
    images.put(image, blobs)
    images.remove(image.id)
    images.remove(image.id)
    assert images.all() == []
    assert images.named(A1) is images.named(A2) is None
    again = ImageStore(content)
    again.load()
    assert again.all() == []


def test_an_ambiguous_beginning(images: ImageStore, content: ContentStore) -> None:
    for word in "abcdefghijklmnopqrs":  # more than there are digits
        images.put(*made(content, word))
    with pytest.raises(InvalidArgumentError, match="beginning of"):
        list(map(images.with_prefix, "0123456789abcdef"))


def test_the_index_shows_the_same_names(images: ImageStore, content: ContentStore) -> None:
    image, blobs = made(content, "a", A1, digests=(ADIGEST,))
    nameless, other = made(content, "b")
    images.put(image, blobs)
    images.put(nameless, other)
    manifests = json.loads((content.directory / "index.json").read_bytes())["manifests"]
    names = [
        (entry["digest"], (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name")) for entry in manifests
    ]
    assert sorted(names, key=str) == sorted(
        [(image.manifest_digest, A1), (image.manifest_digest, ADIGEST), (nameless.manifest_digest, None)], key=str
    )


def test_damaged_records_are_set_aside_by_name(
    images: ImageStore, content: ContentStore, caplog: pytest.LogCaptureFixture
) -> None:
    stored = [made(content, word, f"q.io/{word}:1") for word in "abcd"]
    for image, blobs in stored:
        images.put(image, blobs)
    records = [content.directory / "records" / f"{image.id[7:]}.json" for image, _ in stored]
    records[0].write_bytes(records[0].read_bytes().replace(b"q.io/a", b"q.io/z"))
    records[1].write_bytes(b"")
    content.discard(stored[2][1].manifest.digest)
    again = ImageStore(content)
    with caplog.at_level(logging.ERROR):
        again.load()
    assert again.all() == [stored[3][0]]
    assert all(str(record) in caplog.text for record in records[:3])
    assert not any(record.exists() for record in records[:3])


def test_a_name_moves_though_the_disk_has_no_room_for_the_poorer_record(
    images: ImageStore, content: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a start fail that cannot write it either."""
    old, new = made(content, "old", A1), made(content, "new", A1)
    images.put(*old)
    record = content.directory / "records" / f"{old[0].id[7:]}.json"
    os.utime(record, (1, 1))  # the clock of a file system is coarse
    whole = record.read_bytes()

    def full(path: Path, data: bytes, **options: Any) -> None:
        if path == record:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_atomic(path, data, **options)

    monkeypatch.setattr("crid.store.images.write_atomic", full)
    images.put(*new)
    again = ImageStore(content)
    again.load()
    for store in (images, again):
        assert store.named(A1) == new[0]
        assert store.get(old[0].id) == replace(old[0], repo_tags=())
    assert record.read_bytes() == whole
    monkeypatch.undo()
    again.load()
    assert record.read_bytes() != whole
    assert again.named(A1) == new[0]


@pytest.mark.parametrize(("number", "aside"), [(errno.EIO, True), (errno.EMFILE, False)])
def test_a_record_that_the_disk_does_not_give_back(
    images: ImageStore, content: ContentStore, monkeypatch: pytest.MonkeyPatch, number: int, aside: bool
) -> None:
    """A bad sector costs one image, not the start; what may be whole is left alone, and the start fails."""
    stored = [made(content, word, f"q.io/{word}:1") for word in "ab"]
    for image, blobs in stored:
        images.put(image, blobs)
    record = content.directory / "records" / f"{stored[0][0].id[7:]}.json"
    read_bytes = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path == record:
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    again = ImageStore(content)
    if aside:
        again.load()
        assert again.all() == [stored[1][0]]
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            again.load()
    assert record.exists() is not aside
