"""A pull: from a name to a recorded image, or to nothing.

    reference -> endpoints -> manifest (index: choose) -> configuration -> layers, in parallel -> record

Rules: one flight a reference and credentials, shared by all who ask and not ended by any of them; each blob and each
layer is made once, whoever else is making it from the same registry is waited for; the record comes last, so an image
that is listed is complete. Blobs and layers of an interrupted pull are each complete and verified: the next try uses them,
and garbage collection removes them if none comes.

Locks: a layer's task holds its chain id's, then its blob's, never the other way, and waits only for the layers below.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from crid import trace
from crid.errors import CridError, ResourceExhaustedError, UnavailableError
from crid.image import artifact
from crid.image.admission import Admission
from crid.image.auth import NONE, Credentials
from crid.image.auth_files import NodeCredentials
from crid.image.download import Downloads, finished, settle
from crid.image.hosts_toml import Hosts
from crid.image.ingest import LayerPlan, StagedLayer, keep_blob, unpack_layer
from crid.image.manifest import Platform
from crid.image.recording import Stores, layer_plans, leased, record_image, room_for_blobs, room_for_layers
from crid.image.references import Reference
from crid.image.registries import Endpoint, Registries
from crid.image.resolve import Found, configuration, find
from crid.image.transfers import Transfers, Watch
from crid.log import fields
from crid.model.digest import digest_of
from crid.model.image import Descriptor, Image
from crid.tasks import KeyedLock, Supervisor

if TYPE_CHECKING:
    from crid.image.registry import Repository
    from crid.image.registry_client import RegistryClient

logger = logging.getLogger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

_Key = tuple[str, Credentials, str]
"""What makes two pulls the same: the name, the credentials, the namespace."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A pull that is under way."""

    task: asyncio.Task[Image]
    transfers: Transfers


class Puller:
    """All pulls of a daemon, with `max_downloads` at once from each registry. Used on the event loop."""

    def __init__(
        self,
        stores: Stores,
        supervisor: Supervisor,
        *,
        around: Callable[[Awaitable[Image]], Coroutine[Any, Any, Image]],
        client: "Callable[[], RegistryClient]",
        registries: Callable[[], Registries],
        hosts: Hosts,
        node_credentials: NodeCredentials,
        admission: Admission,
        platform: Platform,
        max_downloads: int,
    ) -> None:
        """`around` awaits each pull once, however many wait for its result, or none."""
        self._around = around
        self._stores = stores
        self._supervisor = supervisor
        self._client = client
        self._registries = registries
        self._hosts = hosts
        self._node_credentials = node_credentials
        self._admission = admission
        self._platform = platform
        self._downloads = Downloads(stores.content, max_downloads)
        self._locks = KeyedLock()
        self._flights: dict[_Key, _Flight] = {}

    def __repr__(self) -> str:
        return f"<Puller flights={[name for name, *_ in self._flights]}>"

    @property
    def received_bytes(self) -> int:
        """Bytes of blobs that have come so far."""
        return self._downloads.received

    def close(self) -> None:
        """Let go of the idle threads. No pull may be running."""
        self._downloads.close()

    async def pull(
        self,
        name: str,
        credentials: Credentials = NONE,
        namespace: str = "",
        watch: Watch | None = None,
    ) -> Image:
        """Return the image that `name` means in its registry now, fetching what of it is not here.

        Joins a pull of the same name with the same credentials for the same namespace. A cancelled caller does not end it.

        Raises InvalidArgumentError (malformed name, or an image crid cannot run), NotFoundError, PermissionDeniedError,
        UnavailableError, DataLossError, ResourceExhaustedError (disk full).
        """
        key = (name, credentials, namespace)
        flight = self._flights.get(key)
        if flight is None:
            transfers = Transfers(self._stores.content)
            task = self._supervisor.start(self._around(self._pull(*key, transfers)), f"pull {name}")
            self._flights[key] = flight = _Flight(task, transfers)
            task.add_done_callback(lambda done: self._landed(key, done))
        if watch is not None:
            watch(flight.transfers)
        return await asyncio.shield(flight.task)

    def _landed(self, key: _Key, flight: asyncio.Task[Image]) -> None:
        del self._flights[key]
        if flight.cancelled():
            logger.warning("pull cancelled%s", fields(image=key[0]))
        elif (error := flight.exception()) is not None:
            logger.warning("pull failed%s", fields(image=key[0], error=error))
        else:
            logger.info("pulled%s", fields(image=key[0], id=flight.result().id))

    async def _pull(self, name: str, credentials: Credentials, namespace: str, transfers: Transfers) -> Image:
        registries = self._registries()
        failure: CridError | None = None
        for reference in registries.candidates(name):
            left = self._node_credentials.take_namespaced(namespace, reference.repository)
            version = reference.version
            for endpoint, tells in self._steps(registries, reference):
                if ":" in version if tells else not endpoint.resolves and ":" not in version:
                    continue  # it was told before, or by nobody
                try:
                    shown = credentials if _may_see(endpoint, reference, credentials) else NONE
                    if not credentials:
                        place = endpoint.reference.repository
                        shown = await self._node_credentials.find(place, registries.credential_helpers, left)
                    repository = self._client().repository(endpoint, shown)
                    if tells:
                        version = digest_of((await repository.manifest(version))[0])
                        continue
                    return await self._pull_from(repository, reference, version, namespace, transfers)
                except* CridError as group:
                    failure = _first(group)
                except* OSError as group:
                    failure = ResourceExhaustedError(f"image {reference}: {_first(group)}")
                    failure.__cause__ = _first(group)
                logger.info("endpoint failed%s", fields(image=reference, at=endpoint.reference, error=failure))
        raise failure or UnavailableError(f"image {name}: hosts.toml names no place that may be asked for it")

    def _steps(self, registries: Registries, reference: Reference) -> list[tuple[Endpoint, bool]]:
        """Return whom to ask, in order, and whether only for the digest that the tag means: where some may not say that, and
        others may say nothing else, it is found out first, and the content is then asked for by digest."""
        found = [] if registries.covers(reference) else self._hosts.endpoints(reference)
        found = found or registries.endpoints(reference)
        apart = not reference.digest and not all(endpoint.resolves and endpoint.pulls for endpoint in found)
        telling = [(endpoint, True) for endpoint in found if apart and endpoint.resolves]
        return telling + [(endpoint, False) for endpoint in found if endpoint.pulls]

    async def _pull_from(
        self, repository: "Repository", reference: Reference, version: str, namespace: str, transfers: Transfers
    ) -> Image:
        """Pull from one place, but under the name that was asked for; `version` is what is asked for there."""
        trace.step("pull", "asking for the manifest")
        found = await find(repository, reference, version, self._platform)
        digests = (*found.targets, found.descriptor.digest)
        # An image's identifier is its configuration's digest. A removal of the image that is here spares what is held.
        with self._stores.leases.hold([found.identifier]):
            await self._admission.admit(repository, reference, digests, found.identifier, namespace)
            transfers.expect((found.manifest.config, *found.manifest.layers))
            if (present := self._present(found, reference)) is not None:
                return present
            if found.manifest.artifact_type:
                return await self._artifact(repository, reference, found)
            return await self._image(repository, reference, found)

    async def _image(self, repository: "Repository", reference: Reference, found: Found) -> Image:
        """Bring an image's configuration, which is held, and its layers, then record it."""
        trace.step("pull", "fetching the configuration")
        config = await configuration(repository, self._stores.content, found.manifest, self._platform)
        plans = layer_plans(found.manifest, config)
        with self._stores.leases.hold(leased(plans, found.manifest, found.descriptor)):
            trace.step("pull", "fetching layers")
            room = room_for_layers(self._stores, plans, f"image {reference}")
            with room, self._dropping_partials(plan.blob for plan in plans):
                await self._layers(repository, plans)
            return await asyncio.to_thread(
                record_image,
                self._stores,
                found.manifest,
                found.content,
                config,
                tags=found.tags(reference),
                digests=found.digests(reference),
            )

    @contextlib.contextmanager
    def _dropping_partials(self, blobs: Iterable[Descriptor]) -> Iterator[None]:
        """Delete what has arrived of `blobs` if the block fails for good: nobody will go on with it, but who is at it now."""
        try:
            yield
        except BaseExceptionGroup as group:
            if group.split(UnavailableError)[1] is not None:
                others = self._downloads.under_way
                self._stores.content.drop_partials(blob.digest for blob in blobs if blob.digest not in others)
            raise

    async def _artifact(self, repository: "Repository", reference: Reference, found: Found) -> Image:
        """Bring an artifact's blobs, then make its files."""
        stores, manifest = self._stores, found.manifest
        artifact.files(manifest, stores.limits)
        trace.step("pull", "fetching an artifact's files")
        with stores.leases.hold(artifact.leased(manifest, found.descriptor)):
            if manifest.config.digest == artifact.EMPTY_DIGEST:
                await asyncio.to_thread(stores.content.add, manifest.config.media_type, artifact.EMPTY)
            blobs = [blob for blob in artifact.blobs(manifest) if blob.digest not in stores.content]
            with room_for_blobs(stores, blobs, f"image {reference}"), self._dropping_partials(blobs):
                async with asyncio.TaskGroup() as group:
                    for blob in blobs:
                        group.create_task(self._keep(repository, blob))
            return await asyncio.to_thread(
                artifact.record_artifact,
                stores,
                manifest,
                found.content,
                tags=found.tags(reference),
                digests=found.digests(reference),
            )

    async def _keep(self, repository: "Repository", blob: Descriptor) -> None:
        content = self._stores.content
        async with self._locks.hold(f"blob {blob.digest} of {repository.host}"):
            if blob.digest not in content:
                await self._downloads.fetch(repository, blob, partial(keep_blob, content, blob))

    def _present(self, found: Found, reference: Reference) -> Image | None:
        """Return the image, if all of it is here and it bears the names that this pull would give it."""
        image = self._stores.images.get(found.identifier)
        if image is None or image.manifest_digest != found.descriptor.digest:
            return None
        named = reference.digest or str(reference) in image.repo_tags
        named = named and set(found.digests(reference)) <= set(image.repo_digests)
        whole = all(chain_id in self._stores.layers for chain_id in image.chain_ids)
        return image if named and whole else None

    async def _layers(self, repository: "Repository", plans: Sequence[LayerPlan]) -> None:
        """Bring all layers, each in a task that waits for the one below only to become visible."""
        async with asyncio.TaskGroup() as group:
            below: asyncio.Task[None] | None = None
            for plan in plans:
                below = group.create_task(self._layer(repository, plan, below))

    async def _layer(self, repository: "Repository", plan: LayerPlan, below: asyncio.Task[None] | None) -> None:
        content, layers = self._stores.content, self._stores.layers
        loop = asyncio.get_running_loop()
        # Two names: the lowest layer's chain id is the digest of its blob, if that is not compressed.
        async with self._locks.hold(f"layer {plan.chain_id} of {repository.host}"):
            present = plan.chain_id in layers
            async with self._locks.hold(f"blob {plan.blob.digest} of {repository.host}"):
                if present and plan.blob.digest not in content:
                    await self._downloads.fetch(repository, plan.blob, partial(keep_blob, content, plan.blob))
                if present:
                    return
                staged = await self._unpack(repository, plan)
            try:
                if below is not None:
                    await asyncio.wait([below])
                    if below.cancelled() or below.exception() is not None:
                        return  # the group is ending with that failure
                trace.step("pull", "committing a layer")
                await finished(loop.run_in_executor(None, staged.commit))  # or `close` would empty what it makes visible
            finally:
                await settle(loop.run_in_executor(None, staged.close))

    async def _unpack(self, repository: "Repository", plan: LayerPlan) -> StagedLayer:
        """Unpack the layer from its blob, downloaded if it is not here; the caller closes the result."""
        content, layers, limits = self._stores.content, self._stores.layers, self._stores.limits
        if plan.blob.digest not in content:
            work = partial(unpack_layer, content, layers, plan, keep=True, limits=limits)
            return await self._downloads.fetch(repository, plan.blob, work)

        def unpack_stored() -> StagedLayer:
            with content.path(plan.blob.digest).open("rb", buffering=0) as blob:
                return unpack_layer(content, layers, plan, blob, keep=False, limits=limits)

        return await self._downloads.local(unpack_stored)


def _may_see(endpoint: Endpoint, reference: Reference, credentials: Credentials) -> bool:
    """Whether an endpoint is shown the credentials: they are for the image's registry, which `location` only renames; a
    mirror sees them if they name it."""
    if endpoint.mirror:
        return bool(credentials.server) and credentials.server == endpoint.reference.domain
    return credentials.valid_for(reference.domain) or credentials.valid_for(endpoint.reference.domain)


def _first(group: BaseExceptionGroup[E]) -> E:
    first: E | BaseExceptionGroup[E] = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
