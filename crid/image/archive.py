"""What an OCI image layout or a docker archive on disk holds, read without believing it.

An archive's files are opened beneath its directory only (openat2(2)), must be regular files, and small ones are bounded.
Layouts: OCI image-spec, image-layout.md; the docker archive (`docker save`) is a `manifest.json` that lists for each
image its configuration, its names and its layers' files.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from crid.errors import DataLossError, InvalidArgumentError, NotFoundError
from crid.image.compression import Hashed
from crid.image.document import read_json, read_object
from crid.image.manifest import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    Manifest,
    Platform,
    parse_manifest,
    write_manifest,
)
from crid.image.references import Reference, parse
from crid.linux.openat2 import open_beneath
from crid.model.digest import digest_of, has_digest
from crid.model.image import Descriptor
from crid.store.content import NAME_ANNOTATION

_CONTAINERD_NAME = "io.containerd.image.name"
_INDEX_DEPTH = 3
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive. `files` says where each blob is, relative to the archive's directory."""

    names: tuple[Reference, ...]
    descriptor: Descriptor
    content: bytes
    """The manifest, as it is or as crid wrote it for a docker archive."""
    manifest: Manifest
    files: dict[str, str]


@contextlib.contextmanager
def opened(directory: Path, name: str) -> Iterator[IO[bytes]]:
    """Open the regular file `name` of an archive. Raises NotFoundError, InvalidArgumentError naming it."""
    try:
        descriptor = open_beneath(directory, name, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFoundError(f"archive: {name[:300]!r} is missing") from error
    except OSError as error:
        raise InvalidArgumentError(f"archive: {name[:300]!r}: {error.strerror}") from error
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidArgumentError(f"archive: {name[:300]!r} is not a regular file")
        yield file


def read_archive(directory: Path, platform: Platform) -> list[ArchivedImage]:
    """Return the images for `platform` in `directory`. Blocks: a docker archive's layers are hashed.

    Raises InvalidArgumentError if it is no archive of images, NotFoundError for what is missing in it, DataLossError.
    """
    if (directory / "index.json").is_file():
        return _read_layout(directory, platform)
    if (directory / "manifest.json").is_file():
        return _read_docker(directory)
    raise InvalidArgumentError("archive: has neither index.json (an OCI layout) nor manifest.json (a docker archive)")


def _small(directory: Path, name: str, limit: int) -> bytes:
    with opened(directory, name) as file:
        content = b"".join(iter(lambda: file.read(limit + 1), b""))
    if len(content) > limit:
        raise DataLossError(f"archive: {name[:300]!r} is longer than {limit} bytes")
    return content


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _read_layout(directory: Path, platform: Platform) -> list[ArchivedImage]:
    content = _small(directory, "index.json", MANIFEST_LIMIT)
    index = parse_manifest(content)
    if not isinstance(index, Index):
        raise InvalidArgumentError("archive: index.json is not an index")
    entries = read_object(content, "archive: index.json").get("manifests") or []
    annotations = [entry.get("annotations") or {} for entry in entries]
    images: dict[str, ArchivedImage] = {}
    for position, (descriptor, _) in zip(index.positions, index.entries, strict=True):
        image = _resolve(directory, descriptor, platform)
        names = _layout_names(annotations[position], image.content)
        known = images.get(image.descriptor.digest)
        images[image.descriptor.digest] = replace(image, names=((known.names if known else ()) + names))
    return list(images.values())


def _resolve(directory: Path, descriptor: Descriptor, platform: Platform) -> ArchivedImage:
    """Return the image that a layout's descriptor leads to."""
    for _ in range(_INDEX_DEPTH):
        content = _small(directory, _blob(descriptor.digest), MANIFEST_LIMIT)
        if not has_digest(content, descriptor.digest):
            raise DataLossError(f"archive: blob {descriptor.digest} has other content")
        parsed = parse_manifest(content, descriptor.media_type)
        if isinstance(parsed, Manifest):
            files = {blob.digest: _blob(blob.digest) for blob in (parsed.config, *parsed.layers)}
            return ArchivedImage((), Descriptor(parsed.media_type, digest_of(content), len(content)), content, parsed, files)
        descriptor = parsed.choose(platform)
    raise DataLossError(f"archive: more than {_INDEX_DEPTH} indexes inside each other")


def _layout_names(annotations: dict[str, Any], manifest: bytes) -> tuple[Reference, ...]:
    """Return the name an index entry gives; a bare word is a tag of a repository that the archive does not name."""
    text = annotations.get(_CONTAINERD_NAME) or annotations.get(NAME_ANNOTATION)
    if not isinstance(text, str) or not any(character in text for character in "/:@"):
        return ()
    name = parse(text)
    return () if name.digest and not has_digest(manifest, name.digest) else (name,)


def _read_docker(directory: Path) -> list[ArchivedImage]:
    document = read_json(_small(directory, "manifest.json", MANIFEST_LIMIT), "archive: manifest.json")
    try:
        entries = [
            (str(entry["Config"]), [str(layer) for layer in entry["Layers"]], [str(tag) for tag in entry.get("RepoTags") or []])
            for entry in document
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise DataLossError(f"archive: manifest.json is not that of a docker archive: {error!r}") from error
    hashed: dict[str, Descriptor] = {}
    return [_docker_image(directory, *entry, hashed) for entry in entries]


def _docker_image(
    directory: Path, config_name: str, layer_names: list[str], tags: list[str], hashed: dict[str, Descriptor]
) -> ArchivedImage:
    """Return one image, with the OCI manifest that it would have in a registry. `hashed` keeps what was hashed already."""
    config_content = _small(directory, config_name, CONFIG_LIMIT)
    config = Descriptor(OCI_CONFIG, digest_of(config_content), len(config_content))
    for name in layer_names:
        if name not in hashed:
            hashed[name] = _hash(directory, name)
    layers = [hashed[name] for name in layer_names]
    descriptor, content = write_manifest(config, layers)
    files = {config.digest: config_name, **{hashed[name].digest: name for name in layer_names}}
    names = tuple(parse(tag) for tag in tags)
    return ArchivedImage(names, descriptor, content, Manifest(OCI_MANIFEST, config, tuple(layers)), files)


def _hash(directory: Path, name: str) -> Descriptor:
    with opened(directory, name) as file:
        hashed = Hashed(file)
        gzip = (head := hashed.read(_CHUNK)).startswith(b"\x1f\x8b")
        while head:
            head = hashed.read(_CHUNK)
    return Descriptor(OCI_LAYER + ("+gzip" if gzip else ""), hashed.digest, hashed.size)
