"""Images as the rest of crid sees them: pull, import, look up, list, remove, and root file systems made of them.

    <imagestore>/images   blobs, records, index.json   (crid.store.content, crid.store.images)
    <imagestore>/layers   unpacked layers              (crid.store.layers)
    <root>/snapshots      containers' writable layers  (crid.store.layers)

`imagestore` is the root unless it is configured. Read-only stores (crid.store.additional) may have images besides.

An image that a container runs from, or has mounted, is not removed, be the container's end long past; only its own removal
lets go. What a removal meets that is just being created keeps its layers until its snapshot is released. Garbage is collected
after a removal, a failed pull, a release, and at start.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from crid import trace
from crid.config import ImageConfig, seconds
from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnavailableError
from crid.image import importer
from crid.image.admission import Admission
from crid.image.auth import from_cri
from crid.image.auth_files import NodeCredentials
from crid.image.garbage import GarbageCollector
from crid.image.hosts_toml import Hosts
from crid.image.limits import LayerLimits
from crid.image.manifest import host_platform
from crid.image.pull import Puller
from crid.image.recording import Stores
from crid.image.references import matches, parse
from crid.image.registries_file import configured
from crid.image.transfers import Watch
from crid.linux.disk import disk_usage
from crid.log import fields
from crid.model.digest import is_prefix, whole
from crid.model.idmap import IdMap
from crid.model.image import Image
from crid.model.mount import Mount
from crid.store import gc
from crid.store.additional import AdditionalStore
from crid.store.content import ContentStore
from crid.store.images import ImageStore
from crid.store.layers import LayerStore, SeenAt, Snapshot
from crid.tasks import Supervisor

if TYPE_CHECKING:
    from crid.image.registry_client import RegistryClient

logger = logging.getLogger(__name__)

_FILE_LIMIT = 1 << 20
"""Bytes of an artifact that crid itself reads, as in CRI-O."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """What images take: bytes and inodes, from counters kept at unpacking, and the directory they are below."""

    mountpoint: str
    used_bytes: int
    inodes_used: int


class ImageService:
    """All images of a daemon. Used on one event loop; `load` first, `close` last."""

    def __init__(
        self,
        root: Path,
        registries_conf: Path,
        supervisor: Supervisor,
        *,
        max_concurrent_downloads: int = 6,
        in_use: Callable[[], Set[str]] = frozenset,
        settings: ImageConfig | None = None,
    ) -> None:
        """`in_use` returns chain ids that must stay besides those that images and snapshots need."""
        self._settings = settings = settings or ImageConfig()
        self._registries = configured(registries_conf)
        image_root = Path(settings.imagestore or root)
        self._root = image_root
        self._containers = root / "snapshots"
        self._additional = [AdditionalStore(Path(path)) for path in settings.additional_image_stores]
        content = ContentStore(image_root, self._additional)
        layers = LayerStore(image_root, self._containers, self._additional)
        self._stores = Stores(content, layers, ImageStore(content, self._additional), gc.Leases(), _limits(settings))
        self._platform = host_platform()
        self._supervisor = supervisor
        self._client: RegistryClient | None = None
        self._pinned = list(settings.pinned_images)
        registries_d = Path(settings.registries_d)
        stores = [image_root, *(store.root for store in self._additional)]
        self._admission = Admission(stores, settings.signature_policy, settings.signature_policy_dir, registries_d)
        self._garbage = GarbageCollector(self._stores, in_use)
        self._puller = Puller(
            self._stores,
            supervisor,
            around=self._pulling,
            client=self._registry_client,
            registries=self._registries.get,
            hosts=Hosts([Path(directory) for directory in settings.certs_dirs]),
            node_credentials=NodeCredentials(settings.global_auth_file, settings.namespaced_auth_dir),
            admission=self._admission,
            platform=self._platform,
            max_downloads=max_concurrent_downloads,
        )

    def __repr__(self) -> str:
        return f"<ImageService {self._root} {self._stores.images!r} {self._stores.layers!r}>"

    def load(self) -> None:
        """Read what is on disk; set aside what is damaged, and remove what nothing needs. Blocks shortly. Raises OSError."""
        for store in self._additional:
            store.load()
        self._stores.content.load()
        self._stores.layers.load()
        self._stores.images.load()
        gc.delete(self._garbage.take(self._stores.content.recent() | self._drop_incomplete()))
        self._admission.load({image.id for image in self._stores.images.all()})
        if self._stores.layers.unsynced:
            self._flush()  # the last daemon has ended before it was done with that

    def _drop_incomplete(self) -> set[str]:
        """Forget the images that lack a layer and so cannot run; return their blobs, from which the next pull makes them."""
        stores, blobs = self._stores, set()
        for identifier in list(stores.images.contents()):
            image = stores.images.get(identifier)
            assert image is not None, "the stores' image with these contents"
            if missing := [chain_id for chain_id in image.chain_ids if chain_id not in stores.layers]:
                logger.error("image without all its layers dropped%s", fields(image=image.id, missing=missing[0]))
                blobs |= {image.id, *stores.images.contents()[image.id].blobs}
                stores.images.remove(image.id)
        return blobs

    async def close(self) -> None:
        """Close connections and threads. Pulls must have ended: the supervisor is closed first."""
        self._puller.close()
        if self._client is not None:
            await self._client.close()

    def pin(self, reference: str) -> None:
        """Report the image called `reference` as pinned, whenever it is there. Raises InvalidArgumentError."""
        self._pinned.append(str(parse(reference)))

    async def pull(
        self, reference: str, auth: cri.AuthConfig | None = None, namespace: str = "", *, watch: Watch | None = None
    ) -> Image:
        """Fetch what `reference` names and return it. Idempotent; follows a tag that has moved.

        `namespace` is that of the pod it is for: it may have credentials and a signature policy of its own.
        Goes on when the caller is cancelled, and is joined by whoever asks for the same. Raises InvalidArgumentError,
        NotFoundError, PermissionDeniedError, UnavailableError, DataLossError, ResourceExhaustedError.
        """
        return self._shown(await self._puller.pull(reference, from_cri(auth), namespace, watch))

    async def _pulling(self, work: Awaitable[Image]) -> Image:
        """Await a pull, whoever else waits for it; then flush its layers, beside everything else."""
        image = await self._cleaning(work)
        trace.step("pull", "flushing layers")
        self._flush()
        return image

    def _flush(self) -> None:
        self._supervisor.start_logged(asyncio.to_thread(self._stores.layers.sync), "flush layers")

    async def import_path(self, path: Path, name: str | None = None, *, watch: Watch | None = None) -> list[Image]:
        """Import an OCI layout or a docker archive and return its images. Idempotent. See crid.image.importer for what is
        raised."""
        work = importer.import_path(self._stores, path, self._platform, name, watch)
        images = await self._supervisor.run(self._cleaning(self._flushed(work)), f"import {path}")
        return [self._shown(image) for image in images]

    async def _flushed(self, work: Awaitable[T]) -> T:
        """Await `work`, and flush the layers that it has brought."""
        result = await work
        await asyncio.to_thread(self._stores.layers.sync)
        return result

    def list_images(self, name: str = "") -> list[Image]:
        """Return all images, or the one that `name` (a reference, an id or its beginning) means."""
        if name:
            image = self.status(name)
            return [image] if image is not None else []
        return [self._shown(image) for image in self._stores.images.all()]

    def status(self, reference: str) -> Image | None:
        """Return the image that `reference` (a name, an id or its beginning) means, None if there is none.

        An id comes before a name, a name before the beginning of an id. Raises InvalidArgumentError for an empty or
        malformed reference and for an ambiguous beginning.
        """
        images = self._stores.images
        if not reference:
            raise InvalidArgumentError("image reference: is empty")
        identifier, beginning = whole(reference), is_prefix(reference)
        image = images.get(identifier)
        if image is None and not identifier and not (beginning and ":" in reference):
            names = [str(candidate) for candidate in self._registries.get().candidates(reference)]
            image = next((found for name in names if (found := images.named(name)) is not None), None)
        if image is None and beginning:
            image = images.with_prefix(reference)
        return None if image is None else self._shown(image)

    def resolve(self, reference: str) -> Image:
        """Like `status`, but raises NotFoundError if there is no such image."""
        image = self.status(reference)
        if image is None:
            raise NotFoundError(f"image {reference}: not found")
        return image

    def runnable(self, reference: str) -> Image:
        """Return the image that a container is to run from. Raises as `resolve` does, and FailedPreconditionError for an
        OCI artifact."""
        image = self.resolve(reference)
        if image.artifact_type:
            raise FailedPreconditionError(
                f"image {reference}: is an OCI artifact of type {image.artifact_type[:200]!r}, not an image: "
                "it can be mounted, but nothing can run from it"
            )
        return image

    def mountable(self, reference: str) -> Image:
        """Return the image that is to be mounted into a container. Raises as `resolve` does, and FailedPreconditionError for
        an OCI artifact where the configuration forbids to mount those."""
        image = self.resolve(reference)
        if image.artifact_type and not self._settings.oci_artifact_mount_support:
            raise FailedPreconditionError(
                f"image {reference}: is an OCI artifact, and crid.image.oci_artifact_mount_support is off"
            )
        return image

    async def artifact_file(self, reference: str, kind: str, namespace: str) -> Path:
        """Return the only file of an OCI artifact whose type begins with `kind`, pulled if it is not here, for a pod of
        `namespace`. Raises as `pull` and `check_policy` do, and FailedPreconditionError for anything else."""
        image = self.status(reference) or await self.pull(reference, None, namespace)
        self.check_policy(image, reference, namespace)
        if not image.artifact_type.startswith(kind):
            raise FailedPreconditionError(f"image {reference}: is {image.artifact_type or 'an image'!r}, not {kind!r}")
        directory = self._stores.layers.diff(image.chain_ids[0])
        files = [path for path in directory.rglob("*") if path.is_file()]
        if len(files) != 1 or files[0].stat().st_size > _FILE_LIMIT:
            raise FailedPreconditionError(f"image {reference}: must hold one file of at most {_FILE_LIMIT} bytes")
        return files[0]

    def check_policy(self, image: Image, reference: str = "", namespace: str = "") -> None:
        """Check that the signature policy lets `image`, which the user calls `reference`, run in a pod of `namespace`.

        Raises PermissionDeniedError, InvalidArgumentError for a malformed policy.
        """
        self._admission.check(image, reference, namespace)

    async def remove(self, reference: str) -> None:
        """Remove the image that `reference` means with all its names. Idempotent; pinned ones too.

        Raises as `status`, and FailedPreconditionError naming a container that needs it, or the read-only store that has it.
        """
        image = self.status(reference)
        if image is not None:
            self._stores.images.require_own(image.id)
            if users := self._stores.layers.users(image.id):
                others = f" and {len(users) - 1} more" if len(users) > 1 else ""
                raise FailedPreconditionError(f"image {reference}: is in use by container {users[0]}{others}")
            trace.step("image removal", "removing its record")
            await asyncio.to_thread(self._forget, image.id)
            trace.step("image removal", "looking for garbage")
            if image.id not in self._stores.leases.held():  # or a pull is about to record it again
                self._admission.forget([image.id])
            await self.collect()

    def _forget(self, identifier: str) -> None:
        """Remove an image's record. If the daemon dies before its blobs are gone, too, the next start is to remove them, as
        nobody pulls them."""
        if (content := self._stores.images.contents().get(identifier)) is not None:
            self._stores.content.forgo((identifier, content.manifest.digest, *content.blobs))
        self._stores.images.remove(identifier)

    def fs_usage(self) -> FilesystemUsage:
        """Return what images take on disk, from counters."""
        blobs = self._stores.content.sizes()
        layers = self._stores.layers.layers().values()
        used = sum(blobs.values()) + sum(layer.size for layer in layers)
        return FilesystemUsage(str(self._root), used, len(blobs) + sum(layer.inodes for layer in layers))

    async def containers_fs_usage(self) -> FilesystemUsage:
        """Return what containers have changed of their images, and where that is, which takes a walk over all of it. Unless
        images are kept apart (`imagestore`) it is what `fs_usage` is, from counters."""
        if not self._settings.imagestore:
            return self.fs_usage()
        usage = await asyncio.to_thread(disk_usage, str(self._containers))
        return FilesystemUsage(str(self._containers.parent), usage.bytes, usage.inodes)

    @property
    def received_bytes(self) -> int:
        """How many bytes of blobs registries have sent since the daemon's start."""
        return self._puller.received_bytes

    def prepare_rootfs(
        self,
        identifier: str,
        image: Image,
        *,
        idmap: IdMap | None = None,
        seen_at: SeenAt | None = None,
        volumes: Iterable[Image] = (),
    ) -> Snapshot:
        """Make the writable root file system `identifier` (a container's id) over `image`; the caller mounts it.

        `idmap` and `seen_at` are those of `LayerStore.prepare`, the directories being `layer_directories`. The layers of
        `volumes` stay until the root file system is released. Raises AlreadyExistsError, NotFoundError if a layer is
        gone, OSError.
        """
        volumes = list(volumes)
        also = [chain_id for volume in volumes for chain_id in volume.chain_ids]
        images = [image.id, *(volume.id for volume in volumes)]
        return self._stores.layers.prepare(identifier, image.chain_ids, idmap=idmap, seen_at=seen_at, also=also, images=images)

    @property
    def layer_directories(self) -> list[Path]:
        """Where layers are: crid's own, then those of the read-only stores."""
        return self._stores.layers.directories

    def view(self, image: Image, target: str, *, seen_at: SeenAt | None = None) -> Mount:
        """Return the read-only mount of `image` at `target`. Raises NotFoundError if a layer is gone."""
        return self._stores.layers.view(image.chain_ids, target, seen_at=seen_at)

    def upper(self, identifier: str) -> Path:
        """Return the directory that holds what the container `identifier` has changed of its image."""
        return self._stores.layers.upper(identifier)

    async def release_rootfs(self, identifier: str) -> None:
        """Delete a root file system that is no longer mounted. Idempotent. Raises FailedPreconditionError, OSError.

        Garbage is looked for only if the last look found layers that nothing but snapshots needs, this one among them.
        """
        stood_on = self._stores.layers.snapshot_layers().get(identifier, ())
        await asyncio.to_thread(self._stores.layers.remove, identifier)
        if not self._garbage.lingering.isdisjoint(stood_on):
            await self.collect()

    async def collect(self) -> None:
        """Remove the blobs and layers that nothing needs."""
        doomed = self._garbage.take()
        if doomed:
            trace.step("image removal", "deleting garbage")
            await asyncio.to_thread(gc.delete, doomed)

    async def _cleaning(self, work: Awaitable[T]) -> T:
        """Await `work`; if it fails for good, remove what it has brought. What a retry can use stays."""
        try:
            return await work
        except UnavailableError:
            raise
        except Exception:
            await self.collect()
            raise

    def _shown(self, image: Image) -> Image:
        """Return the image as answers have it. What a read-only store has cannot be removed, so the kubelet shall not try."""
        pinned = any(matches(pattern, name) for pattern in self._pinned for name in image.repo_tags)
        return replace(image, pinned=pinned or self._stores.images.read_only(image.id) is not None)

    def _registry_client(self) -> "RegistryClient":
        """Return the client, made (and its HTTP library imported) when a daemon pulls for the first time."""
        if self._client is None:
            from crid.image.registry_client import Patience, RegistryClient
            from crid.image.transport import Certificates

            settings = self._settings
            certificates = Certificates([Path(directory) for directory in settings.certs_dirs])
            self._client = RegistryClient(Patience(progress=seconds(settings.pull_progress_timeout)), certificates)
        return self._client


def _limits(settings: ImageConfig) -> LayerLimits:
    return LayerLimits(settings.layer_size_limit, settings.layer_entries_limit, settings.layer_ratio_limit)
