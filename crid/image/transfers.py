"""How far a pull or an import is, blob by blob, for whoever watches it. All of it is known once the manifest is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crid.model.image import Descriptor
from crid.store.content import ContentStore


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes of a blob that are here, and how many there will be."""

    digest: str
    received: int
    total: int


class Transfers:
    """The blobs of one pull or import. Others may bring them as well: what is in the store is here, whoever brought it."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content
        self._blobs: dict[str, Descriptor] = {}
        self._read: dict[str, int] = {}

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Add blobs that are wanted."""
        self._blobs.update((blob.digest, blob) for blob in blobs)

    def read(self, digest: str, size: int) -> None:
        """Note that `size` more bytes of a blob were read from an archive."""
        self._read[digest] = self._read.get(digest, 0) + size

    def now(self) -> list[Transfer]:
        """Return how far each is, in the order of the manifest."""
        return [self._of(blob) for blob in self._blobs.values()]

    def _of(self, blob: Descriptor) -> Transfer:
        if blob.digest in self._content:
            return Transfer(blob.digest, blob.size, blob.size)
        received = self._read.get(blob.digest) or self._content.partial_size(blob)
        return Transfer(blob.digest, min(received, blob.size), blob.size)


Watch = Callable[[Transfers], None]
"""Is told where it can be seen how far the work is that it was given to."""
