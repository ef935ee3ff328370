"""Blobs by digest, in the layout that skopeo, podman and umoci read as `oci:DIRECTORY:NAME` (OCI image-spec, image-layout.md).

    <root>/images/oci-layout            says that this is an OCI image layout
    <root>/images/index.json            one descriptor a name; derived from crid.store.images' records
    <root>/images/blobs/<algorithm>/<hex>   complete, verified content: manifests, configurations, compressed layers
    <root>/images/ingest/<random>           a blob that is still arriving; nothing here outlives the daemon
    <root>/images/partial/<digest>          what has arrived of a blob whose download broke; the next one goes on from there

A blob is written below `ingest` or `partial`, hashed on the way (what a partial one had already, too), flushed to the
disk, compared with the digest and size that were promised, and only then renamed to its name: what stands under a digest
has that digest. It is never changed afterwards, so readers need no lock.

The store knows nothing of what a blob means, nor who still needs one: that is crid.store.gc's.
"""

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from crid.errors import DataLossError, NotFoundError, UnavailableError
from crid.linux.files import remove_unfinished, sync_directory, write_atomic
from crid.linux.remove import remove_tree
from crid.model.digest import LENGTHS, check_digest, digest_of, digest_so_far, has_digest, new_hash, whole
from crid.model.image import Descriptor
from crid.store.room import Room, blob_key

if TYPE_CHECKING:
    from crid.store.additional import AdditionalStore

NAME_ANNOTATION = "org.opencontainers.image.ref.name"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
PARTIAL_SECONDS = 24 * 3600.0
"""How long what an interrupted pull has brought waits for the next one."""


def blob_path(blobs: Path, digest: str) -> Path:
    """Return where a layout's directory `blobs` has, or would have, the blob `digest`. Raises InvalidArgumentError."""
    return blobs / check_digest(digest).replace(":", "/")


def stored(blobs: Path) -> dict[str, Path]:
    """Return the blobs in a layout's directory `blobs` by digest; what has another name is passed over. Raises OSError."""
    found: dict[str, Path] = {}
    for directory in (blobs / algorithm for algorithm in LENGTHS):
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            names = {entry.name: f"{directory.name}:{entry.name}" for entry in entries}
            found |= {digest: directory / name for name, digest in names.items() if whole(digest)}
    return found


class ContentStore:
    """The blobs below `root`. Methods block for disk access; they may be called from any thread."""

    def __init__(self, root: Path, additional: Sequence["AdditionalStore"] = ()) -> None:
        """Blobs of `additional` read-only stores are there, too, but neither counted nor removed."""
        self.directory = root / "images"
        self._additional = additional
        self._blobs = self.directory / "blobs"
        self._ingest = self.directory / "ingest"
        self._partial = self.directory / "partial"
        self._sizes: dict[str, int] = {}
        self.room = Room(self.directory)
        """That of the file system, for unpacked layers as well."""

    def __repr__(self) -> str:
        return f"<ContentStore {self.directory} blobs={len(self._sizes)}>"

    def load(self) -> None:
        """Make the layout if it is not there, drop what was still arriving when the last daemon ended, and learn which
        blobs exist. Raises OSError."""
        with contextlib.suppress(OSError):
            remove_tree(self._ingest)
        algorithms = [self._blobs / algorithm for algorithm in LENGTHS]
        for directory in (self.directory, *algorithms, self._ingest, self._partial):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unfinished(self.directory)
        layout = self.directory / "oci-layout"
        if not layout.exists():
            write_atomic(layout, b'{"imageLayoutVersion":"1.0.0"}', durable=True)
        if not (self.directory / "index.json").exists():
            self.write_index([])
        self._sizes = {digest: path.stat().st_size for digest, path in stored(self._blobs).items()}

    def path(self, digest: str) -> Path:
        """Return where the blob `digest` is, or would be. Raises InvalidArgumentError for a malformed digest."""
        own = blob_path(self._blobs, digest)
        if digest in self._sizes:
            return own
        return next((store.blobs[digest] for store in self._additional if digest in store.blobs), own)

    def __contains__(self, digest: object) -> bool:
        return digest in self._sizes or any(digest in store.blobs for store in self._additional)

    def sizes(self) -> Mapping[str, int]:
        """Return the size in bytes of every blob of its own, by digest."""
        return self._sizes

    def read(self, digest: str, *, limit: int) -> bytes:
        """Return a small blob, verified again.

        Raises NotFoundError if it is not there, DataLossError if it is longer than `limit` bytes or damaged.
        """
        try:
            with self.path(digest).open("rb") as file:
                content = file.read(limit + 1)
        except FileNotFoundError as error:
            raise NotFoundError(f"blob {digest}: not in {self._blobs}") from error
        if len(content) > limit:
            raise DataLossError(f"blob {digest}: longer than {limit} bytes")
        if not has_digest(content, digest):
            raise DataLossError(f"blob {digest}: damaged on disk")
        return content

    def add(self, media_type: str, content: bytes, digest: str = "") -> Descriptor:
        """Store `content` under its `digest`, the canonical one without, and return its descriptor. Idempotent.

        Raises DataLossError if it has another digest, OSError.
        """
        descriptor = Descriptor(media_type, digest or digest_of(content), len(content))
        if descriptor.digest not in self:
            with self.ingest(descriptor) as blob:
                blob.write(content)
                blob.commit()
        return descriptor

    def ingest(self, expected: Descriptor | None = None, *, resume: bool = False) -> "Ingest":
        """Return a new blob to be written in a `with` block; without a commit nothing remains of it.

        `expected` is what the writer was promised; None when the digest is only known at the end. With `resume` it begins
        with what the last such attempt has brought, and an UnavailableError in the block leaves all that is there for the
        next; only one writer may do so at a time.
        """
        if expected is None:
            return Ingest(self, expected, self._ingest / secrets.token_hex(8))
        check_digest(expected.digest)
        path = self._partial_path(expected.digest) if resume else self._ingest / secrets.token_hex(8)
        return Ingest(self, expected, path, resume=resume)

    def partial_size(self, blob: Descriptor) -> int:
        """Return how many bytes of `blob` a broken download has left."""
        try:
            size = self._partial_path(blob.digest).stat().st_size
        except FileNotFoundError:
            return 0
        return size if size <= blob.size else 0

    def discard_stale_partials(self, needed: Set[str]) -> list[Path]:
        """Take the parts out of sight that nobody has gone on with for `PARTIAL_SECONDS`, but not those of the blobs `needed`
        that are not here, and return the files that are then to be deleted: a download that begins meanwhile finds nothing.
        Raises OSError."""
        wanted = needed - self._sizes.keys()
        oldest = time.time() - PARTIAL_SECONDS
        stale: list[Path] = []
        with os.scandir(self._partial) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # its download has just ended
                    if entry.stat().st_mtime < oldest and entry.name not in wanted:
                        os.rename(entry.path, doomed := self._ingest / secrets.token_hex(8))
                        stale.append(doomed)
        return stale

    def drop_partials(self, digests: Iterable[str]) -> None:
        """Delete what broken downloads have left of the blobs `digests`. Idempotent."""
        for digest in digests:
            self._partial_path(digest).unlink(missing_ok=True)

    def recent(self) -> set[str]:
        """Return the blobs that came within the last `PARTIAL_SECONDS`."""
        oldest = time.time() - PARTIAL_SECONDS
        return {digest for digest, path in stored(self._blobs).items() if path.stat().st_mtime >= oldest}

    def forgo(self, digests: Iterable[str]) -> None:
        """Note of the blobs `digests` that no interrupted pull needs them: they are not `recent` any more. Idempotent. Raises
        OSError."""
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                os.utime(blob_path(self._blobs, digest), (0, 0))

    def _partial_path(self, digest: str) -> Path:
        return self._partial / check_digest(digest)

    def scratch(self) -> Path:
        """Make and return an empty directory that does not outlive the daemon; the caller removes it."""
        directory = self._ingest / secrets.token_hex(8)
        directory.mkdir(mode=0o700)
        return directory

    def publish(self, temporary: Path, digest: str, size: int) -> None:
        """Give a verified file its name (for Ingest)."""
        path = blob_path(self._blobs, digest)
        os.rename(temporary, path)
        sync_directory(path.parent)
        self._sizes[digest] = size

    def discard(self, digest: str) -> Path | None:
        """Take the blob out of sight at once and return the file that is then to be deleted, None if there is no such blob.

        Raises OSError.
        """
        if digest not in self._sizes:
            return None
        doomed = self._ingest / secrets.token_hex(8)
        os.rename(blob_path(self._blobs, digest), doomed)
        del self._sizes[digest]
        return doomed

    def write_index(self, names: Iterable[tuple[str, Descriptor]]) -> None:
        """Replace index.json: one entry a (name, manifest). Raises OSError."""
        manifests = [
            {
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.size,
                **({"annotations": {NAME_ANNOTATION: name}} if name else {}),
            }
            for name, manifest in names
        ]
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}
        write_atomic(self.directory / "index.json", json.dumps(index, indent=1).encode(), durable=True)


class Ingest:
    """One blob on its way in: write, then commit, within a `with` block. Used by one thread at a time."""

    def __init__(self, store: ContentStore, expected: Descriptor | None, temporary: Path, *, resume: bool = False) -> None:
        self._store = store
        self._expected = expected
        self._temporary = temporary
        self._resume = resume
        self._left = 0
        self._hash = new_hash(expected.digest if expected else "")
        self._descriptor = -1
        self.size = 0
        """Bytes replayed and written so far."""

    def __enter__(self) -> Self:
        create = os.O_CREAT if self._resume else os.O_CREAT | os.O_EXCL
        self._descriptor = os.open(self._temporary, os.O_RDWR | create | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if self._expected is not None and os.fstat(self._descriptor).st_size > self._expected.size:
            os.ftruncate(self._descriptor, 0)
        self._left = os.fstat(self._descriptor).st_size
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        if not (self._resume and self.size and isinstance(error, UnavailableError)):
            self._temporary.unlink(missing_ok=True)

    def replay(self, size: int) -> bytes:
        """Return at most `size` bytes of what was there at the beginning, none at its end; to be done before writing."""
        data = os.read(self._descriptor, min(size, self._left))
        self._hash.update(data)
        self.size += len(data)
        self._left -= len(data)
        return data

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`. Raises DataLossError as soon as the blob is longer than promised, OSError."""
        self.size += len(data)
        if self._expected is not None and self.size > self._expected.size:
            raise DataLossError(f"blob {self._expected.digest}: longer than the promised {self._expected.size} bytes")
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if self._expected is not None:
            self._store.room.written(len(data), blob_key(self._expected.digest))

    def commit(self, media_type: str = "") -> Descriptor:
        """Verify, flush and publish what was written; return its descriptor.

        Raises DataLossError naming the promised digest if the content has another digest or size, OSError.
        """
        digest = digest_so_far(self._hash)
        expected = self._expected or Descriptor(media_type, digest, self.size)
        if self.size != expected.size:
            raise DataLossError(f"blob {expected.digest}: has {self.size} bytes, {expected.size} were promised")
        if digest != expected.digest:
            raise DataLossError(f"blob {expected.digest}: its content has the digest {digest}")
        os.fsync(self._descriptor)
        self._store.publish(self._temporary, digest, self.size)
        return expected
