"""From a name in a repository to the documents of one image for this machine, each step verified by its digest."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from crid.errors import DataLossError
from crid.image.document import off_loop
from crid.image.manifest import CONFIG_LIMIT, ImageConfig, Index, Manifest, Platform, parse_config, parse_manifest
from crid.image.references import Reference
from crid.log import fields
from crid.model.digest import digest_of, has_digest
from crid.model.image import Descriptor
from crid.store.content import ContentStore

if TYPE_CHECKING:
    from crid.image.registry import Repository

logger = logging.getLogger(__name__)

_INDEX_DEPTH = 3
"""An index may lead to an index so often before it is taken for a cycle."""


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest for this machine, and the digests of what the name stands for: itself, or the index it is in."""

    targets: tuple[str, ...]
    """The one that was asked for, if one was, and the canonical one."""
    descriptor: Descriptor
    content: bytes
    manifest: Manifest

    @property
    def identifier(self) -> str:
        """The image's id."""
        return self.manifest.identifier(self.descriptor.digest)

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """Return the tag that a pull of `reference` gives the image."""
        return () if reference.digest else (str(reference),)

    def digests(self, reference: Reference) -> tuple[str, ...]:
        """Return the repo digests that it gives it."""
        return tuple(str(reference.at_digest(target)) for target in self.targets)


async def find(repository: "Repository", reference: Reference, version: str, platform: Platform) -> Found:
    """Return the manifest for `platform` that `version`, a tag or a digest, means in `repository`.

    Raises DataLossError for what is not what it was promised to be, and as `Repository.manifest`, `parse_manifest` and
    `Index.choose` do.
    """
    content, media_type = await repository.manifest(version)
    wanted = version if ":" in version else ""
    targets, parsed = await off_loop(content, partial(_read, content, media_type, platform, wanted))
    digests = targets
    for _ in range(_INDEX_DEPTH):
        if isinstance(parsed, Manifest):
            return Found(targets, Descriptor(parsed.media_type, digests[-1], len(content)), content, parsed)
        chosen = parsed
        content, media_type = await repository.manifest(chosen.digest)
        if len(content) != chosen.size:
            raise DataLossError(f"manifest {chosen.digest}: has {len(content)} bytes, the index promises {chosen.size}")
        digests, parsed = await off_loop(content, partial(_read, content, media_type, platform, chosen.digest))
    raise DataLossError(f"image {reference}: more than {_INDEX_DEPTH} indexes inside each other")


def _read(content: bytes, media_type: str, platform: Platform, wanted: str) -> tuple[tuple[str, ...], Manifest | Descriptor]:
    """Return the digests of `content`, `wanted` first, and what it is or leads to. Raises DataLossError if it has not the
    digest `wanted`, where there is one."""
    canonical = digest_of(content)
    if wanted and not has_digest(content, wanted):
        raise DataLossError(f"manifest {wanted}: the registry sent something with the digest {canonical}")
    parsed = parse_manifest(content, media_type)
    digests = tuple(dict.fromkeys(filter(None, (wanted, canonical))))
    return digests, parsed.choose(platform) if isinstance(parsed, Index) else parsed


async def configuration(repository: "Repository", store: ContentStore, manifest: Manifest, platform: Platform) -> ImageConfig:
    """Return the configuration of an image, fetched into `store` if it is not there. Raises DataLossError, and as
    `Repository.small_blob` and `parse_config` do."""
    descriptor = manifest.config
    if descriptor.digest in store:
        kept = await asyncio.to_thread(store.read, descriptor.digest, limit=CONFIG_LIMIT)
        return await off_loop(kept, partial(parse_config, kept, manifest))
    blob = await repository.small_blob(descriptor, CONFIG_LIMIT)
    config = await off_loop(blob, partial(_verified_config, blob, manifest))
    if config.architecture not in ("", platform.architecture):
        # As with CRI-O: the kernel may know how to run it (binfmt_misc).
        logger.warning("image of another architecture%s", fields(id=descriptor.digest, architecture=config.architecture))
    await asyncio.to_thread(store.add, descriptor.media_type, blob, descriptor.digest)
    return config


def _verified_config(blob: bytes, manifest: Manifest) -> ImageConfig:
    promised = manifest.config
    if len(blob) != promised.size or not has_digest(blob, promised.digest):
        raise DataLossError(f"blob {promised.digest}: the registry sent {len(blob)} bytes, {digest_of(blob)}")
    return parse_config(blob, manifest)
