"""OCI artifacts: manifests of files rather than of root file systems (OCI image-spec, manifest.md, "Guidelines for Artifact
Usage"). They are pulled, named and removed like images, and a container may mount them, but none runs from one.

A layer is one file, whatever its media type, called by the layer's title; without a title it is called by the hexadecimal
digits of its digest, as in CRI-O. All files of an artifact stand in one directory of crid.store.layers, under a chain id
of their own, so that mounting, use, idmaps and garbage collection are those of images. The files are hard links to the
blobs, so that nothing is kept twice.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from crid.errors import InvalidArgumentError
from crid.image.limits import LayerLimits
from crid.image.manifest import Manifest
from crid.image.recording import Stores
from crid.linux.disk import disk_usage
from crid.model.digest import digest_of, hexadecimal
from crid.model.image import Descriptor, Image, ImageProcess
from crid.store.content import ContentStore
from crid.store.images import ImageContent

EMPTY = b"{}"
EMPTY_DIGEST = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
"""The configuration of most artifacts, which need not be fetched (image-spec, "Guidance for an Empty Descriptor")."""
_COMPONENT_LIMIT = 255
_PATH_LIMIT = 4096 - 256
"""A path must leave room for that of the directory it is in (path_resolution(7), PATH_MAX)."""


def chain_id(digest: str) -> str:
    """Return the chain id of the files of the artifact whose manifest is `digest`. No layer of an image can have it."""
    return digest_of(f"artifact {digest}".encode())


def blobs(manifest: Manifest) -> list[Descriptor]:
    """Return what is to be fetched, each blob once."""
    parts = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
    return list(parts.values())


def leased(manifest: Manifest, descriptor: Descriptor) -> list[str]:
    """Return the blobs and the layer that must not be collected before the record is written."""
    return [descriptor.digest, chain_id(descriptor.digest), *(blob.digest for blob in blobs(manifest))]


def files(manifest: Manifest, limits: LayerLimits) -> Mapping[PurePosixPath, Descriptor]:
    """Return the artifact's files by their relative paths.

    Raises InvalidArgumentError for a title that is no relative path, that leads out, or that two layers have, and for an
    artifact beyond `limits`.
    """
    found: dict[PurePosixPath, Descriptor] = {}
    for title, blob in zip(manifest.titles, manifest.layers, strict=True):
        path = _path(title or hexadecimal(blob.digest), blob)
        if path in found:
            raise InvalidArgumentError(f"layer {blob.digest}: another one has the title {title[:200]!r}, too")
        found[path] = blob
    for path in found:
        if above := next((parent for parent in path.parents if parent in found), None):
            raise InvalidArgumentError(
                f"layer {found[above].digest}: {str(above)[:200]!r} is the directory of {str(path)[:200]!r}"
            )
    _check_limits(found, limits)
    return found


def _path(title: str, blob: Descriptor) -> PurePosixPath:
    path = PurePosixPath(title)
    encoded = [os.fsencode(part) for part in path.parts] if title.isprintable() else []
    if not encoded or path.is_absolute() or ".." in path.parts or max(map(len, encoded)) > _COMPONENT_LIMIT:
        raise InvalidArgumentError(f"layer {blob.digest}: its title {title[:200]!r} is no path of a file below a directory")
    if len(os.fsencode(title)) > _PATH_LIMIT:
        raise InvalidArgumentError(f"layer {blob.digest}: its title is longer than {_PATH_LIMIT} bytes")
    return path


def _check_limits(found: Mapping[PurePosixPath, Descriptor], limits: LayerLimits) -> None:
    size = sum(blob.size for blob in found.values())
    if limits.size and size > limits.size:
        raise InvalidArgumentError(f"artifact: has {size} bytes, layer_size_limit is {limits.size}")
    if limits.entries and len(found) > limits.entries:
        raise InvalidArgumentError(f"artifact: has {len(found)} files, layer_entries_limit is {limits.entries}")


def record_artifact(
    stores: Stores,
    manifest: Manifest,
    content: bytes,
    *,
    tags: tuple[str, ...] = (),
    digests: tuple[str, ...] = (),
) -> Image:
    """Make the files of an artifact whose blobs are stored, under lease, then its manifest and its record. Blocks.

    Returns the artifact with all its names, old and new. Raises as `files` does, and OSError.
    """
    descriptor = stores.content.add(manifest.media_type, content)
    layer = chain_id(descriptor.digest)
    if layer not in stores.layers:
        _lay_out(stores, manifest, layer)
    image = Image(
        id=descriptor.digest,
        repo_tags=tags,
        repo_digests=digests,
        size=descriptor.size + sum(blob.size for blob in blobs(manifest)),
        process=ImageProcess(),
        chain_ids=(layer,),
        manifest_digest=descriptor.digest,
        artifact_type=manifest.artifact_type,
    )
    return stores.images.put(image, ImageContent(descriptor, tuple(blob.digest for blob in blobs(manifest))))


def _lay_out(stores: Stores, manifest: Manifest, layer: str) -> None:
    with stores.layers.stage() as staged:
        copied = 0
        for path, blob in files(manifest, stores.limits).items():
            target = staged / "diff" / path
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            copied += _place(stores.content, blob, target)
        inodes = disk_usage(str(staged / "diff")).inodes - 1
        stores.layers.commit(staged, layer, "", size=copied, inodes=inodes, implied=())


def _place(content: ContentStore, blob: Descriptor, target: Path) -> int:
    """Make `target` the readable file that `blob` is; return the bytes that this took."""
    source = content.path(blob.digest)
    try:
        source.chmod(0o444)
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EROFS, errno.EPERM):
            raise
        shutil.copyfile(source, target)
        target.chmod(0o444)
        return blob.size
    return 0
