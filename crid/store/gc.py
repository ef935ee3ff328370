"""What nothing needs any more: blobs and layers that no image, no snapshot and no running pull refers to.

An image needs its configuration, manifest and compressed layers, and its unpacked layers; a snapshot needs the unpacked
layers it stands on and those below; a pull or import holds a lease on what it is about to use, taken before it looks
whether it is there. Deciding and taking out of sight happen in one go on the event loop's thread, where leases and
records change too; only the deleting of what is out of sight is slow, and left to a thread.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from crid.linux.remove import remove_tree
from crid.log import fields
from crid.store.content import ContentStore
from crid.store.layers import LayerStore

logger = logging.getLogger(__name__)


class Leases:
    """Blobs and layers in use by work that has not recorded anything yet, counted."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Leases held={len(self._held)}>"

    @contextlib.contextmanager
    def hold(self, identifiers: Iterable[str]) -> Iterator[None]:
        """Keep the blobs and layers called `identifiers` (digests, chain ids) for the block."""
        held = list(identifiers)
        self._held.update(held)
        try:
            yield
        finally:
            self._held.subtract(held)
            self._held += Counter()  # drops what is at zero

    def held(self) -> Set[str]:
        """Return what is held now."""
        return set(self._held)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may go: digests of blobs, chain ids of layers."""

    blobs: frozenset[str]
    layers: frozenset[str]


def find_garbage(blobs: Set[str], parents: Mapping[str, str], needed_blobs: Set[str], needed_layers: Iterable[str]) -> Garbage:
    """Return what of `blobs` and of the layers in `parents` (chain id to the chain id below) is not needed. Pure.

    A needed layer needs all below it.
    """
    reached: set[str] = set()
    for layer in needed_layers:
        while layer and layer not in reached:
            reached.add(layer)
            layer = parents.get(layer, "")
    return Garbage(frozenset(blobs - needed_blobs), frozenset(parents.keys() - reached))


def take_away(content: ContentStore, layers: LayerStore, garbage: Garbage) -> list[Path]:
    """Take the garbage out of sight and return the files and directories that remain for `delete`. What a broken file system
    does not let go stays known, is logged, and is garbage the next time: no removal fails for it."""
    doomed: list[Path] = []
    for discard, identifiers in ((content.discard, garbage.blobs), (layers.discard, garbage.layers)):
        for identifier in identifiers:
            try:
                found = discard(identifier)
            except OSError as error:
                logger.warning("garbage not removed%s", fields(garbage=identifier, error=error))
            else:
                doomed += [found] if found is not None else []
    return doomed


def delete(doomed: Iterable[Path]) -> None:
    """Delete what `take_away` returned; for a thread. What cannot be deleted now is when the stores are loaded next."""
    for path in doomed:
        with contextlib.suppress(OSError):
            remove_tree(path)
