"""Images from files: an OCI image layout (a directory or a tar of one) or a docker archive, compressed or not.

A tar is first unpacked to a scratch directory, by the same code and under the same rules as a layer. After that the
order is a pull's: configuration, layers from below, manifest, record. An imported image has the names the archive gives
it, or the one that the caller gives; it has no repo digest, since no registry vouched for it.
"""

import asyncio
import shutil
from pathlib import Path

from crid.errors import InvalidArgumentError, NotFoundError
from crid.image import artifact
from crid.image.archive import ArchivedImage, opened, read_archive
from crid.image.ingest import LayerPlan, keep_blob, unpack_layer
from crid.image.manifest import CONFIG_LIMIT, Platform, parse_config
from crid.image.recording import Stores, layer_plans, leased, record_image
from crid.image.references import Reference, parse
from crid.image.unpack import unpack
from crid.model.image import Descriptor, Image
from crid.store.content import digest_of


async def import_path(stores: Stores, path: Path, platform: Platform, name: str | None = None) -> list[Image]:
    """Import all images for `platform` in `path`; `name` replaces the names of the only one.

    Raises NotFoundError if there is no such file, InvalidArgumentError, DataLossError, ResourceExhaustedError.
    """
    given = parse(name) if name else None
    if given is not None and given.digest:
        raise InvalidArgumentError(f"image name {name!r}: an import takes a tag, not a digest")
    if path.is_dir():
        return await _import_directory(stores, path, platform, given)
    if not path.is_file():
        raise NotFoundError(f"import {path}: no such file or directory")
    scratch = await asyncio.to_thread(stores.content.scratch)
    try:
        await asyncio.to_thread(_unpack_archive, path, scratch)
        return await _import_directory(stores, scratch, platform, given)
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True))


def _unpack_archive(path: Path, scratch: Path) -> None:
    with path.open("rb", buffering=0) as file:
        unpack(file, scratch)


async def _import_directory(stores: Stores, directory: Path, platform: Platform, given: Reference | None) -> list[Image]:
    images = await asyncio.to_thread(read_archive, directory, platform)
    if given is not None and len(images) != 1:
        raise InvalidArgumentError(f"import as {given}: the archive has {len(images)} images, not one")
    return [await _import_image(stores, directory, image, (given,) if given else image.names) for image in images]


async def _import_image(stores: Stores, directory: Path, archived: ArchivedImage, names: tuple[Reference, ...]) -> Image:
    manifest = archived.manifest
    if manifest.artifact_type:
        return await _import_artifact(stores, directory, archived, names)
    with stores.leases.hold([manifest.config.digest]):
        configuration = await asyncio.to_thread(_read_config, directory, archived)
        config = parse_config(configuration, manifest)
        plans = layer_plans(manifest, config)
        with stores.leases.hold(leased(plans, manifest, archived.descriptor)):
            await asyncio.to_thread(stores.content.add, manifest.config.media_type, configuration)
            for plan in plans:
                await asyncio.to_thread(_import_layer, stores, directory, plan, archived.files[plan.blob.digest])
            return await asyncio.to_thread(
                record_image,
                stores,
                manifest,
                archived.content,
                config,
                tags=_tags(names),
                digests=_digests(names),
            )


def _tags(names: tuple[Reference, ...]) -> tuple[str, ...]:
    return tuple(str(name) for name in names if not name.digest)


def _digests(names: tuple[Reference, ...]) -> tuple[str, ...]:
    return tuple(str(name) for name in names if name.digest)


async def _import_artifact(stores: Stores, directory: Path, archived: ArchivedImage, names: tuple[Reference, ...]) -> Image:
    manifest = archived.manifest
    artifact.files(manifest, stores.limits)
    with stores.leases.hold(artifact.leased(manifest, archived.descriptor)):
        for blob in artifact.blobs(manifest):
            if blob.digest not in stores.content:
                await asyncio.to_thread(_import_blob, stores, directory, blob, archived.files[blob.digest])
        return await asyncio.to_thread(
            artifact.record_artifact, stores, manifest, archived.content, tags=_tags(names), digests=_digests(names)
        )


def _import_blob(stores: Stores, directory: Path, blob: Descriptor, name: str) -> None:
    with opened(directory, name) as file:
        keep_blob(stores.content, blob, file)


def _read_config(directory: Path, archived: ArchivedImage) -> bytes:
    digest = archived.manifest.config.digest
    with opened(directory, archived.files[digest]) as file:
        content = file.read(CONFIG_LIMIT)
    if digest_of(content) != digest:
        raise InvalidArgumentError(f"archive: the configuration {digest} has other content")
    return content


def _import_layer(stores: Stores, directory: Path, plan: LayerPlan, name: str) -> None:
    keep = plan.blob.digest not in stores.content
    if plan.chain_id in stores.layers:
        if keep:
            _import_blob(stores, directory, plan.blob, name)
        return
    with opened(directory, name) as file:
        staged = unpack_layer(stores.content, stores.layers, plan, file, keep=keep, limits=stores.limits)
    try:
        staged.commit()
    finally:
        staged.close()
