"""What of the stores' blobs and layers nothing needs: the rule of crid.store.gc over what there is now."""

from collections.abc import Callable, Set
from pathlib import Path

from crid.image.recording import Stores
from crid.store import gc


class GarbageCollector:
    """Looks over `stores`. `in_use` returns chain ids that must stay besides those that images and snapshots need."""

    def __init__(self, stores: Stores, in_use: Callable[[], Set[str]]) -> None:
        self._stores = stores
        self._in_use = in_use
        self.lingering: frozenset[str] = frozenset()
        """Layers that nothing but snapshots needed at the last look: the removal of one of these is worth another."""

    def __repr__(self) -> str:
        return f"<GarbageCollector lingering={len(self.lingering)}>"

    def take(self, spared: Set[str] = frozenset()) -> list[Path]:
        """Take out of sight what nothing needs, but the blobs `spared`, and return what `crid.store.gc.delete` is to delete.

        On the event loop, where no lease comes in between. Raises OSError.
        """
        stores = self._stores
        needed_blobs = set(stores.leases.held()) | spared
        needed_layers = set(stores.leases.held()) | set(self._in_use())
        for image in stores.images.all():
            needed_layers.update(image.chain_ids)
        for identifier, content in stores.images.contents().items():
            needed_blobs.update((identifier, content.manifest.digest, *content.blobs))
        in_snapshots = {chain_id for chain_ids in stores.layers.snapshot_layers().values() for chain_id in chain_ids}
        self.lingering = frozenset(in_snapshots - needed_layers)
        parents = {chain_id: layer.parent for chain_id, layer in stores.layers.layers().items()}
        blobs = set(stores.content.sizes())
        garbage = gc.find_garbage(blobs, parents, needed_blobs, needed_layers | in_snapshots)
        return gc.take_away(stores.content, stores.layers, garbage) + stores.content.discard_stale_partials(needed_blobs)
