"""The last step of a pull or an import: manifest and record, after everything that they promise is there.

An OCI layout holds OCI manifests: other tools pass over an index entry of Docker's media type. So a Docker manifest is
kept as it came, under the digest by which it is known, and a second manifest of OCI's type, over the same configuration
and layers, stands in the index.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from crid import trace
from crid.errors import ResourceExhaustedError
from crid.image.ingest import LayerPlan
from crid.image.limits import NO_LIMITS, LayerLimits
from crid.image.manifest import OCI_MANIFEST, ImageConfig, Manifest, write_manifest
from crid.model.image import Descriptor, Image
from crid.store.content import ContentStore
from crid.store.gc import Leases
from crid.store.images import ImageContent, ImageStore
from crid.store.layers import LayerStore


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a pull or import puts things."""

    content: ContentStore
    layers: LayerStore
    images: ImageStore
    leases: Leases
    limits: LayerLimits = NO_LIMITS


def layer_plans(manifest: Manifest, config: ImageConfig) -> list[LayerPlan]:
    """Return what is to be unpacked for an image, lowest layer first."""
    chain = config.chain_ids
    parts = zip(manifest.layers, config.diff_ids, chain, ("", *chain), strict=False)
    return [LayerPlan(blob, diff_id, chain_id, parent) for blob, diff_id, chain_id, parent in parts]


def leased(plans: list[LayerPlan], manifest: Manifest, descriptor: Descriptor) -> list[str]:
    """Return the blobs and layers that must not be collected before the record is written."""
    shown = _shown(manifest, descriptor)
    blobs = [descriptor.digest, shown[0].digest, manifest.config.digest, *(plan.blob.digest for plan in plans)]
    return blobs + [plan.chain_id for plan in plans]


def check_room(stores: Stores, plans: list[LayerPlan]) -> None:
    """Refuse early what cannot fit: a layer that is not here takes at least twice its blob's size, packed and unpacked.

    Raises ResourceExhaustedError saying what is needed and what there is.
    """
    unpacked = sum(plan.blob.size for plan in plans if plan.chain_id not in stores.layers)
    check_room_for(stores, [plan.blob for plan in plans], unpacked)


def check_room_for(stores: Stores, blobs: Iterable[Descriptor], besides: int = 0) -> None:
    """Refuse `blobs` if those that are not here, and `besides` bytes, do not fit. Raises as `check_room`."""
    content = stores.content
    needed = besides + sum(blob.size - content.partial_size(blob) for blob in blobs if blob.digest not in content)
    status = os.statvfs(content.directory)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise ResourceExhaustedError(f"{content.directory}: the image needs at least {needed} bytes, {free} are free")


def record_image(
    stores: Stores,
    manifest: Manifest,
    content: bytes,
    config: ImageConfig,
    *,
    tags: tuple[str, ...] = (),
    digests: tuple[str, ...] = (),
) -> Image:
    """Store the manifest `content` and the record of an image whose other parts are stored, under lease. Blocks.

    Returns the image with all its names, old and new. Raises OSError.
    """
    trace.step("image", "storing its manifest")
    descriptor = stores.content.add(manifest.media_type, content)
    shown, shown_content = _shown(manifest, descriptor)
    if shown_content is not None:
        stores.content.add(shown.media_type, shown_content)
    image = Image(
        id=manifest.config.digest,
        repo_tags=tags,
        repo_digests=digests,
        size=descriptor.size + manifest.config.size + sum(layer.size for layer in manifest.layers),
        process=config.process,
        chain_ids=config.chain_ids,
        manifest_digest=descriptor.digest,
    )
    trace.step("image", "writing its record")
    return stores.images.put(image, ImageContent(shown, (descriptor.digest, *(layer.digest for layer in manifest.layers))))


def _shown(manifest: Manifest, descriptor: Descriptor) -> tuple[Descriptor, bytes | None]:
    """Return the manifest for the index, and its content if it is not the image's own."""
    if manifest.media_type == OCI_MANIFEST:
        return descriptor, None
    return write_manifest(manifest.config, manifest.layers)
