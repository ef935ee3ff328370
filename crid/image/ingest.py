"""One layer into the store: kept compressed as it came, unpacked in the same go, visible only when all of it was verified.

Everything here blocks and runs on a thread. The blob appears before the layer; each is complete by itself, so that
being stopped in between costs the next pull only the unpacking.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from crid import trace
from crid.errors import CridError
from crid.image.limits import NO_LIMITS, LayerLimits
from crid.image.tar import ByteSource
from crid.image.unpack import Unpacked, unpack
from crid.model.image import Descriptor
from crid.store.content import ContentStore, Ingest
from crid.store.layers import LayerStore
from crid.store.room import Room, layer_key

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer of an image: what the manifest and the configuration promise of it."""

    blob: Descriptor
    diff_id: str
    chain_id: str
    parent: str


class _Unpacking:
    """Reads from a source that is unpacked as a layer, and notes that what was read needs no reserved room any more."""

    def __init__(self, source: ByteSource, room: Room, chain_id: str) -> None:
        self._source = source
        self._room = room
        self._key = layer_key(chain_id)

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._room.written(len(data), self._key)
        return data


class _Kept:
    """Reads what a blob has already, then from a source, and writes what was read there to the blob."""

    def __init__(self, source: ByteSource, blob: Ingest) -> None:
        self._source = source
        self._blob = blob

    def read(self, size: int) -> bytes:
        data = self._blob.replay(size)
        if not data and (data := self._source.read(size)):
            self._blob.write(data)
        return data


def keep_blob(content: ContentStore, blob: Descriptor, source: ByteSource, *, resume: bool = False) -> None:
    """Store `source` as `blob`; with `resume` it is what follows `content.partial_size(blob)`, as in `content.ingest`.

    Raises DataLossError if it is something else, OSError, and what `source` raises.
    """
    with content.ingest(blob, resume=resume) as ingest:
        kept = _Kept(source, ingest)
        while kept.read(_CHUNK):
            pass
        ingest.commit()


def unpack_layer(
    content: ContentStore,
    layers: LayerStore,
    plan: LayerPlan,
    source: ByteSource,
    *,
    keep: bool,
    resume: bool = False,
    limits: LayerLimits = NO_LIMITS,
) -> "StagedLayer":
    """Unpack `source` into a staged layer and, with `keep`, store it as the plan's blob; `resume` as for `keep_blob`.

    The result is to be committed, or closed. Raises as crid.image.unpack does; nothing remains then.
    """
    with contextlib.ExitStack() as stack:
        staged = stack.enter_context(layers.stage())
        ingest = stack.enter_context(content.ingest(plan.blob, resume=resume)) if keep else None
        kept = _Unpacking(_Kept(source, ingest) if ingest is not None else source, content.room, plan.chain_id)
        try:
            unpacked = unpack(kept, staged / "diff", plan.diff_id, limits, plan.blob.size)
        except CridError as error:
            if plan.blob.digest in str(error):
                raise
            raise type(error)(f"blob {plan.blob.digest}: {error}") from error
        while kept.read(_CHUNK):  # what a stream has after the archive's end belongs to the blob
            pass
        if ingest is not None:
            trace.step("pull", "committing a blob")
            ingest.commit()
        return StagedLayer(layers, plan, unpacked, staged, stack.pop_all())
    raise AssertionError("an exit stack swallows nothing")


class StagedLayer:
    """An unpacked layer that is not visible yet, since the one below it may not be there."""

    def __init__(
        self, layers: LayerStore, plan: LayerPlan, unpacked: Unpacked, staged: Path, stack: contextlib.ExitStack
    ) -> None:
        self._layers = layers
        self._plan = plan
        self._unpacked = unpacked
        self._staged = staged
        self._stack = stack

    def commit(self) -> None:
        """Make it visible, on top of its parent, which must be. Raises NotFoundError, OSError."""
        unpacked = self._unpacked
        self._layers.commit(
            self._staged,
            self._plan.chain_id,
            self._plan.parent,
            size=unpacked.size,
            inodes=unpacked.inodes,
            implied=unpacked.implied,
            opaque=unpacked.opaque,
        )

    def close(self) -> None:
        """Delete what was not committed. Idempotent."""
        self._stack.close()
