"""Blobs on their way: from a registry, on the event loop, to threads that verify, keep and unpack them.

Each registry has its own slots, and what comes from one is waited for only by those who want it from there: a registry that
drips or hangs holds up nobody who pulls from another. So a blob may be on its way twice; the first one goes on with what an
earlier download has left.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakValueDictionary

from crid.errors import CridError, DataLossError, InvalidArgumentError, UnavailableError
from crid.image.feed import Feed
from crid.image.ingest import StagedLayer
from crid.image.tar import ByteSource
from crid.model.image import Descriptor
from crid.store.content import ContentStore

if TYPE_CHECKING:
    from crid.image.registry import Repository

_THREADS = 64
"""At most, whatever the number of registries; each works on one blob."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """What is done with a blob's bytes, on a thread; `resume` as for `ContentStore.ingest`."""

    def __call__(self, source: ByteSource, *, resume: bool) -> T_co: ...


class Downloads:
    """All downloads of a daemon, `slots` at once from each registry. Used on the event loop."""

    def __init__(self, content: ContentStore, slots: int) -> None:
        self._content = content
        self._slots = slots
        self._registries: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="crid-layer")
        self.under_way: dict[str, Descriptor] = {}
        """The blobs that are fetched, or wait for a slot, by digest."""
        self.received = 0
        """Bytes of blobs that have come so far."""

    def __repr__(self) -> str:
        return f"<Downloads under_way={len(self.under_way)}>"

    def close(self) -> None:
        """Let go of the idle threads. Nothing may be under way."""
        self._threads.shutdown(wait=False)

    async def fetch(self, repository: "Repository", blob: Descriptor, work: Work[T]) -> T:
        """Run `work` over the blob as it arrives, and return what it returns.

        What an earlier download has left is gone on with. If the whole is then not what was promised, as after a power
        cut, that part was taken away, and the blob is fetched anew. Raises as `work` and `Repository.blob` do.
        """
        if blob.digest in self.under_way:
            return await self._fetch_from(0, repository, blob, lambda source: work(source, resume=False))

        def resuming(source: ByteSource) -> T:
            return work(source, resume=True)

        self.under_way[blob.digest] = blob
        try:
            if start := await asyncio.to_thread(self._content.partial_size, blob):
                with contextlib.suppress(DataLossError, InvalidArgumentError):
                    return await self._fetch_from(start, repository, blob, resuming)
            return await self._fetch_from(0, repository, blob, resuming)
        finally:
            del self.under_way[blob.digest]

    async def local(self, work: Callable[[], T]) -> T:
        """Run `work`, which needs no registry, as if it were a download from one more."""
        async with self._slot(""):
            return await finished(asyncio.get_running_loop().run_in_executor(self._threads, work))

    async def _fetch_from(self, start: int, repository: "Repository", blob: Descriptor, work: Callable[[ByteSource], T]) -> T:
        async with self._slot(repository.host):
            feed = Feed()
            future = asyncio.get_running_loop().run_in_executor(self._threads, _closing, feed, work)
            try:
                async with aclosing(repository.blob(blob, start)) as chunks:
                    async for chunk in chunks:
                        self.received += len(chunk)
                        await feed.put(chunk)
                        if feed.closed:
                            break
                feed.finish()
                return await asyncio.shield(future)
            except BaseException as error:
                feed.fail(error if isinstance(error, CridError) else UnavailableError(f"blob {blob.digest}: interrupted"))
                await settle(future)
                raise

    def _slot(self, registry: str) -> asyncio.Semaphore:
        slots = self._registries.get(registry)
        if slots is None:
            slots = self._registries[registry] = asyncio.Semaphore(self._slots)
        return slots


async def finished(future: "asyncio.Future[T]") -> T:
    """Return what a thread's work returns. A cancelled caller waits for its end, too: see `settle`."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await settle(future)
        raise


async def settle(future: "asyncio.Future[T]") -> None:
    """Wait for a thread's end, even when cancelled: it may be about to write. A layer that nobody takes is removed."""
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    if future.exception() is None and isinstance(result := future.result(), StagedLayer):
        result.close()
    if cancelled:
        raise asyncio.CancelledError


def _closing(feed: Feed, work: Callable[[ByteSource], T]) -> T:
    try:
        return work(feed)
    finally:
        feed.close()
