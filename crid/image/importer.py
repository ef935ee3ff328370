"""Images from files: an OCI image layout (a directory or a tar of one) or a docker archive, compressed or not.

A tar is first unpacked to a scratch directory, by the same code and under the same rules as a layer. After that the
order is a pull's: configuration, layers from below, manifest, record. An imported image has the names the archive gives
it, or the one that the caller gives; it has no repo digest, since no registry vouched for it.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from crid.errors import InvalidArgumentError, NotFoundError
from crid.image import artifact
from crid.image.archive import ArchivedImage, opened, read_archive
from crid.image.document import off_loop
from crid.image.ingest import LayerPlan, keep_blob, unpack_layer
from crid.image.manifest import CONFIG_LIMIT, Platform, parse_config
from crid.image.recording import Stores, layer_plans, leased, record_image, room_for_blobs, room_for_layers
from crid.image.references import Reference, parse
from crid.image.transfers import Transfers, Watch
from crid.image.unpack import unpack
from crid.model.digest import has_digest
from crid.model.image import Descriptor, Image
from crid.store import gc


async def import_path(
    stores: Stores, path: Path, platform: Platform, name: str | None = None, watch: Watch | None = None
) -> list[Image]:
    """Import all images for `platform` in `path`; `name` replaces the names of the only one.

    Raises NotFoundError if there is no such file, InvalidArgumentError, DataLossError, ResourceExhaustedError.
    """
    given = parse(name) if name else None
    if given is not None and given.digest:
        raise InvalidArgumentError(f"image name {name!r}: an import takes a tag, not a digest")
    transfers = Transfers(stores.content)
    if watch is not None:
        watch(transfers)
    work = _Import(stores, platform, given, transfers)
    if path.is_dir():
        return await work.directory(path)
    if not path.is_file():
        raise NotFoundError(f"import {path}: no such file or directory")
    scratch = await asyncio.to_thread(stores.content.scratch)
    try:
        await asyncio.to_thread(_unpack_archive, path, scratch)
        return await work.directory(scratch)
    finally:
        await asyncio.shield(asyncio.to_thread(gc.delete, [scratch]))


def _unpack_archive(path: Path, scratch: Path) -> None:
    with path.open("rb", buffering=0) as file:
        unpack(file, scratch)


class _Counted:
    """Reads a blob's file, and tells how much of it was read."""

    def __init__(self, file: IO[bytes], digest: str, transfers: Transfers) -> None:
        self._file = file
        self._digest = digest
        self._transfers = transfers

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._transfers.read(self._digest, len(data))
        return data


@dataclass(frozen=True, slots=True)
class _Import:
    """One import into `stores`; `given` is the name that the only image gets."""

    stores: Stores
    platform: Platform
    given: Reference | None
    transfers: Transfers

    async def directory(self, directory: Path) -> list[Image]:
        """Import what is in `directory`."""
        images = await asyncio.to_thread(read_archive, directory, self.platform)
        if self.given is not None and len(images) != 1:
            raise InvalidArgumentError(f"import as {self.given}: the archive has {len(images)} images, not one")
        for image in images:
            self.transfers.expect((image.manifest.config, *image.manifest.layers))
        return [await self._image(directory, image) for image in images]

    async def _image(self, directory: Path, archived: ArchivedImage) -> Image:
        manifest, stores = archived.manifest, self.stores
        if manifest.artifact_type:
            return await self._artifact(directory, archived)
        with stores.leases.hold([manifest.config.digest]):
            configuration = await asyncio.to_thread(_read_config, directory, archived)
            config = await off_loop(configuration, partial(parse_config, configuration, manifest))
            plans = layer_plans(manifest, config)
            with stores.leases.hold(leased(plans, manifest, archived.descriptor)):
                await asyncio.to_thread(stores.content.add, manifest.config.media_type, configuration, manifest.config.digest)
                with room_for_layers(stores, plans, self._what(archived)):
                    for plan in plans:
                        await asyncio.to_thread(self._layer, directory, plan, archived.files[plan.blob.digest])
                tags, digests = self._names(archived)
                return await asyncio.to_thread(
                    record_image, stores, manifest, archived.content, config, tags=tags, digests=digests
                )

    async def _artifact(self, directory: Path, archived: ArchivedImage) -> Image:
        manifest, stores = archived.manifest, self.stores
        artifact.files(manifest, stores.limits)
        with stores.leases.hold(artifact.leased(manifest, archived.descriptor)):
            with room_for_blobs(stores, artifact.blobs(manifest), self._what(archived)):
                for blob in artifact.blobs(manifest):
                    if blob.digest not in stores.content:
                        await asyncio.to_thread(self._blob, directory, blob, archived.files[blob.digest])
            tags, digests = self._names(archived)
            return await asyncio.to_thread(
                artifact.record_artifact, stores, manifest, archived.content, tags=tags, digests=digests
            )

    def _what(self, archived: ArchivedImage) -> str:
        return f"image {self.given or next(iter(archived.names), archived.manifest.config.digest)}"

    def _names(self, archived: ArchivedImage) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the tags and the repo digests that an image gets."""
        names = (self.given,) if self.given else archived.names
        tags = tuple(str(name) for name in names if not name.digest)
        return tags, tuple(str(name) for name in names if name.digest)

    def _blob(self, directory: Path, blob: Descriptor, name: str) -> None:
        with opened(directory, name) as file:
            keep_blob(self.stores.content, blob, _Counted(file, blob.digest, self.transfers))

    def _layer(self, directory: Path, plan: LayerPlan, name: str) -> None:
        stores = self.stores
        keep = plan.blob.digest not in stores.content
        if plan.chain_id in stores.layers:
            if keep:
                self._blob(directory, plan.blob, name)
            return
        with opened(directory, name) as file:
            counted = _Counted(file, plan.blob.digest, self.transfers)
            staged = unpack_layer(stores.content, stores.layers, plan, counted, keep=keep, limits=stores.limits)
        try:
            staged.commit()
        finally:
            staged.close()


def _read_config(directory: Path, archived: ArchivedImage) -> bytes:
    digest = archived.manifest.config.digest
    with opened(directory, archived.files[digest]) as file:
        content = file.read(CONFIG_LIMIT)
    if not has_digest(content, digest):
        raise InvalidArgumentError(f"archive: the configuration {digest} has other content")
    return content
