"""What is wrong with the images, layers and snapshots below a root: read from the disk alone, nothing is changed.

The rules that crid.store.content, layers and images keep, each looked up: a blob has the digest it is named by; an image's
record names blobs and layers that are there, layers from below; a layer's record describes its directory, and holds as
many inodes as were counted when it was unpacked; its link leads to it; a snapshot's layers are there; a name belongs to
one image, and index.json says what the records say.

What is only left over from an interruption (a blob that was still arriving, a missing link, an index that is behind) is
mended by the daemon's next start, and marked so. After a daemon's death at any moment there are no other findings, and
after its next start there are none. While a daemon is at work, what it is about to rename shows up as well: ask again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from crid.linux.disk import disk_usage
from crid.model.digest import digest_so_far, hexadecimal, new_hash
from crid.model.image import Image
from crid.store.additional import AdditionalStore
from crid.store.content import NAME_ANNOTATION, stored
from crid.store.images import ImageContent, read_record
from crid.store.layer_records import Layer, read_layer, read_snapshot
from crid.store.records import DAMAGE

Images = Mapping[str, tuple[Image, ImageContent]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    path: Path
    problem: str
    mended_at_start: bool = False
    """Whether the daemon's next start removes or restores it, at no cost to any image or container."""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def verify(
    root: Path, *, imagestore: Path | None = None, additional: Iterable[Path] = (), contents: bool = True
) -> list[Finding]:
    """Return what is wrong below `root`, and below `imagestore` if images are kept there; nothing, if there is no store.
    What the `additional` read-only stores have is not missing; they themselves are not looked at.

    With `contents` every blob is hashed and every layer walked, which takes as long as the disk takes to read them. Raises
    OSError for what cannot be read at all.
    """
    images, layers = (imagestore or root) / "images", (imagestore or root) / "layers"
    if not images.is_dir():
        return []
    blobs = set(stored(images / "blobs"))
    known: dict[str, tuple[Image, ImageContent]] = {}
    unpacked: dict[str, Layer] = {}
    for store in map(AdditionalStore, additional):
        store.load()
        blobs |= store.blobs.keys()
        unpacked |= store.layers
    return [
        *_leftovers(images / "ingest", images / "records", layers / "staging", layers, root / "snapshots"),
        *_blobs(images / "blobs", contents=contents),
        *_layers(layers, unpacked, contents=contents),
        *_records(images / "records", known),
        *_images(images / "records", known, blobs, unpacked),
        *_index(images / "index.json", known),
        *_snapshots(root / "snapshots", unpacked),
    ]


def _listed(directory: Path) -> list[Path]:
    """Return what is in `directory`, nothing if it is not there."""
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _leftovers(ingest: Path, records: Path, staging: Path, layers: Path, snapshots: Path) -> Iterator[Finding]:
    for path in (*_listed(ingest), *_listed(staging)):
        yield Finding(path, "was still being written or removed", mended_at_start=True)
    for path in _listed(records):
        if path.name.startswith("."):
            yield Finding(path, "was still being written", mended_at_start=True)
        elif ".damaged-" in path.name:
            yield Finding(path, "was set aside as damaged")
    for path in (*_listed(layers), *_listed(snapshots)):
        if path.name.startswith("damaged-"):
            yield Finding(path, "was set aside as damaged")


def _blobs(directory: Path, *, contents: bool) -> Iterator[Finding]:
    found = stored(directory)
    for path in (path for algorithm in _listed(directory) for path in _listed(algorithm)):
        digest = f"{path.parent.name}:{path.name}"
        if digest not in found or not path.is_file():
            yield Finding(path, "is no blob")
        elif contents and (actual := _digest(path, digest)) != digest:
            yield Finding(path, f"its content has the digest {actual}")


def _digest(path: Path, promised: str) -> str:
    with path.open("rb") as file:
        return digest_so_far(hashlib.file_digest(file, lambda: new_hash(promised)))


def _layers(directory: Path, found: dict[str, Layer], *, contents: bool) -> Iterator[Finding]:
    """Put the good layers of `directory` into `found`, and yield what is wrong with the others."""
    for path in _listed(directory):
        if path.name in ("l", "staging", "empty") or path.name.startswith("damaged-"):
            continue
        try:
            layer = read_layer(path)
        except (OSError, *DAMAGE) as error:
            yield Finding(path, f"its record cannot be read: {error}")
            continue
        found[layer.chain_id] = layer
        link = directory / "l" / layer.link
        if not link.is_symlink() or link.readlink() != Path("..", path.name, "diff"):
            yield Finding(link, f"does not lead to the layer {layer.chain_id}", mended_at_start=True)
        if contents and (inodes := disk_usage(str(path / "diff")).inodes - 1) != layer.inodes:
            yield Finding(path, f"holds {inodes} inodes, {layer.inodes} were unpacked")
    for link in _listed(directory / "l"):
        if not link.exists():
            yield Finding(link, "leads to no layer", mended_at_start=True)


def _records(directory: Path, found: dict[str, tuple[Image, ImageContent]]) -> Iterator[Finding]:
    """Put the records that can be read into `found`."""
    for path in sorted(directory.glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            image, content = read_record(path)
        except (OSError, *DAMAGE) as error:
            yield Finding(path, f"cannot be read: {error}")
        else:
            found[image.id] = image, content


def _images(directory: Path, images: Images, blobs: Set[str], layers: Mapping[str, Layer]) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for identifier, (image, content) in images.items():
        path = directory / f"{hexadecimal(identifier)}.json"
        for digest in sorted({identifier, content.manifest.digest, *content.blobs}):
            if digest not in blobs:
                yield Finding(path, f"its blob {digest} is missing")
        below = ""
        for chain_id in image.chain_ids:
            if chain_id not in layers:
                yield Finding(path, f"its layer {chain_id} is missing")
            elif layers[chain_id].parent != below:
                yield Finding(path, f"its layer {chain_id} stands on {layers[chain_id].parent or 'nothing'}, not on {below}")
            below = chain_id
        for name in (*image.repo_tags, *image.repo_digests):
            if name in owners:
                yield Finding(path, f"{name} is also the name of {owners[name]}", mended_at_start=True)
            owners[name] = identifier


def _index(path: Path, images: Images) -> Iterator[Finding]:
    try:
        entries = json.loads(path.read_bytes())["manifests"]
        found = {(str(entry.get("annotations", {}).get(NAME_ANNOTATION, "")), str(entry["digest"])) for entry in entries}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        yield Finding(path, f"cannot be read: {error}", mended_at_start=True)
        return
    wanted = {
        (name, content.manifest.digest)
        for image, content in images.values()
        for name in (*image.repo_tags, *image.repo_digests) or ("",)
    }
    for name, digest in sorted(found ^ wanted):
        state = "has" if (name, digest) in found else "lacks"
        yield Finding(
            path, f"{state} {name or 'an entry without a name'} for {digest}, unlike the records", mended_at_start=True
        )


def _snapshots(directory: Path, layers: Iterable[str]) -> Iterator[Finding]:
    for path in _listed(directory):
        if path.name.startswith("damaged-"):
            continue
        if not (path / "record.json").exists():
            yield Finding(path, "was still being made", mended_at_start=True)
            continue
        try:
            chain_ids = read_snapshot(path).chain_ids
        except (OSError, *DAMAGE) as error:
            yield Finding(path, f"its record cannot be read: {error}")
            continue
        for chain_id in chain_ids:
            if chain_id not in layers:
                yield Finding(path, f"its layer {chain_id} is missing")
        for name in ("upper", "work", "rootfs"):
            if not (path / name).is_dir():
                yield Finding(path, f"has no directory {name}")
