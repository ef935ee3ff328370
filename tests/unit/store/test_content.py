import errno
import json
import os
from pathlib import Path

import pytest

from crid.errors import DataLossError, InvalidArgumentError, NotFoundError
from crid.model.digest import digest_of
from crid.model.image import Descriptor
from crid.store.content import ContentStore


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    content = ContentStore(tmp_path)
    content.load()
    return content


def arriving(store: ContentStore) -> list[str]:
    return [path.name for path in (store.directory / "ingest").iterdir()]


def test_a_blob_comes_in_and_goes(store: ContentStore, tmp_path: Path) -> None:
    blob = store.add("text/plain", b"hello")
    assert blob == Descriptor("text/plain", digest_of(b"hello"), 5)
    assert blob.digest in store
    assert store.path(blob.digest) == tmp_path / "images/blobs/sha256" / blob.digest[7:]
    assert store.read(blob.digest, limit=5) == b"hello"
    assert store.add("text/plain", b"hello") == blob
    again = ContentStore(tmp_path)
    again.load()
    assert dict(again.sizes()) == {blob.digest: 5}
    doomed = store.discard(blob.digest)
    assert doomed is not None
    assert blob.digest not in store
    assert not store.path(blob.digest).exists()
    assert store.discard(blob.digest) is None


def test_a_blob_that_could_not_be_discarded_is_still_counted(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = store.add("text", b"content")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as broken:
        broken.setattr("crid.store.content.os.rename", refuse)
        with pytest.raises(OSError, match="Read-only"):
            store.discard(blob.digest)
    assert store.sizes() == {blob.digest: 7}
    assert store.discard(blob.digest) is not None


@pytest.mark.parametrize(
    ("promised", "size", "complaint"),
    [
        (digest_of(b"other"), 5, "its content has the digest"),
        (digest_of(b"hello"), 4, "longer"),
        (digest_of(b"hello"), 6, "has 5"),
    ],
)
def test_what_was_not_promised_is_not_kept(store: ContentStore, promised: str, size: int, complaint: str) -> None:
    def bring() -> None:
        with store.ingest(Descriptor("", promised, size)) as blob:
            blob.write(b"hel")
            blob.write(b"lo")
            blob.commit()

    with pytest.raises(DataLossError, match=complaint):
        bring()
    assert promised not in store
    assert not store.path(promised).exists()
    assert arriving(store) == []


def test_without_a_commit_nothing_remains(store: ContentStore) -> None:
    with store.ingest() as blob:
        blob.write(b"hello")
        assert len(arriving(store)) == 1
    assert arriving(store) == []
    assert not store.sizes()


def test_a_blob_of_unknown_digest(store: ContentStore) -> None:
    with store.ingest() as blob:
        blob.write(b"hello")
        assert blob.commit("text/plain") == Descriptor("text/plain", digest_of(b"hello"), 5)


def test_a_blob_that_was_damaged_since(store: ContentStore) -> None:
    blob = store.add("", b"hello")
    store.path(blob.digest).write_bytes(b"hullo")
    with pytest.raises(DataLossError, match=blob.digest):
        store.read(blob.digest, limit=10)
    with pytest.raises(DataLossError, match="longer than 4"):
        store.read(blob.digest, limit=4)
    with pytest.raises(NotFoundError):
        store.read(digest_of(b"x"), limit=4)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../../etc/passwd", "sha512:" + "a" * 64, "sha256:" + "A" * 64])
def test_malformed_digests_are_no_paths(store: ContentStore, digest: str) -> None:
    with pytest.raises(InvalidArgumentError):
        store.path(digest)
    with pytest.raises(InvalidArgumentError):
        store.ingest(Descriptor("", digest, 1))


def test_a_start_removes_what_was_arriving(store: ContentStore, tmp_path: Path) -> None:
    (store.directory / "ingest" / "left").write_bytes(b"x")
    store.scratch()
    ContentStore(tmp_path).load()
    assert arriving(store) == []


def test_the_index_names_manifests(store: ContentStore) -> None:
    assert json.loads((store.directory / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    store.write_index([("a/b:c", Descriptor("m", "d", 1)), ("", Descriptor("n", "e", 2))])
    manifests = json.loads((store.directory / "index.json").read_bytes())["manifests"]
    assert [entry.get("annotations") for entry in manifests] == [{"org.opencontainers.image.ref.name": "a/b:c"}, None]
