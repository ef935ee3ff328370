"""The last step of a pull or an import: manifest and record, after everything that they promise is there.

An OCI layout holds OCI manifests: other tools pass over an index entry of Docker's media type. So a Docker manifest is
kept as it came, under the digest by which it is known, and a second manifest of OCI's type, over the same configuration
and layers, stands in the index.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from crid import trace
from crid.image.ingest import LayerPlan
from crid.image.limits import NO_LIMITS, LayerLimits
from crid.image.manifest import OCI_MANIFEST, ImageConfig, Manifest, write_manifest
from crid.model.image import Descriptor, Image
from crid.store.content import ContentStore
from crid.store.gc import Leases
from crid.store.images import ImageContent, ImageStore
from crid.store.layers import LayerStore
from crid.store.room import blob_key, layer_key


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


def room_for_layers(stores: Stores, plans: Iterable[LayerPlan], what: str) -> AbstractContextManager[None]:
    """Reserve, as long as the returned context is entered, what the layers that are not here take: at least twice their blobs'
    sizes, packed and unpacked. Entering raises as `Room.reserve`."""
    unpacked = {layer_key(plan.chain_id): plan.blob.size for plan in plans if plan.chain_id not in stores.layers}
    return stores.content.room.reserve(what, unpacked | _needs(stores.content, [plan.blob for plan in plans]))


def room_for_blobs(stores: Stores, blobs: Iterable[Descriptor], what: str) -> AbstractContextManager[None]:
    """Likewise for blobs that are only kept."""
    return stores.content.room.reserve(what, _needs(stores.content, blobs))


def _needs(content: ContentStore, blobs: Iterable[Descriptor]) -> dict[str, int]:
    return {blob_key(blob.digest): blob.size - content.partial_size(blob) for blob in blobs if blob.digest not in content}


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
