"""AdminService: crid's own RPCs, on the CRI's socket, which only root may open."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from crid.cri import admin_pb2 as admin
from crid.cri.admin_pb2_grpc import AdminServiceServicer
from crid.errors import InvalidArgumentError
from crid.image.service import ImageService
from crid.image.transfers import Transfers, Watch
from crid.server.images import image_message
from crid.server.typing import Context
from crid.tasks import Supervisor

INTERVAL = 0.2
"""Seconds between two messages that tell how far the work is."""

T = TypeVar("T")


class AdminServicer(AdminServiceServicer):
    """Serves pulls and imports that tell how far they are. What was begun goes on when its client leaves."""

    def __init__(self, images: ImageService, supervisor: Supervisor) -> None:
        self._images = images
        self._supervisor = supervisor

    async def PullImage(self, request: admin.PullImageRequest, context: Context) -> AsyncIterator[admin.PullImageResponse]:
        """Pull an image; the last message names it."""
        if not request.image:
            raise InvalidArgumentError("image: is empty")
        auth = request.auth if request.HasField("auth") else None
        name = f"pull {request.image} for the console"
        pull = self._watched(lambda watch: self._images.pull(request.image, auth, request.namespace, watch=watch), name)
        async for transfers, image in pull:
            yield admin.PullImageResponse(transfers=transfers, image_id=image.id if image else "")

    async def ImportImages(
        self, request: admin.ImportImagesRequest, context: Context
    ) -> AsyncIterator[admin.ImportImagesResponse]:
        """Import images from the node's disk; the last message has them."""
        path = Path(request.path)
        if not path.is_absolute():
            raise InvalidArgumentError(f"path {request.path!r}: must be absolute")
        name = request.name or None
        work = self._watched(lambda watch: self._images.import_path(path, name, watch=watch), f"import {path} for the console")
        async for transfers, images in work:
            yield admin.ImportImagesResponse(transfers=transfers, images=map(image_message, images or ()))

    async def _watched(
        self, begin: Callable[[Watch], Coroutine[Any, Any, T]], name: str
    ) -> AsyncIterator[tuple[list[admin.Transfer], T | None]]:
        """Yield how far the work is, until it is done, and then what it returns. Raises what it raises."""
        seen: list[Transfers] = []
        task = self._supervisor.start(begin(seen.append), name)
        done: set[asyncio.Task[T]] = set()
        while not done:
            done, _ = await asyncio.wait([task], timeout=INTERVAL)
            transfers = [
                admin.Transfer(digest=one.digest, received=one.received, total=one.total) for part in seen for one in part.now()
            ]
            yield transfers, task.result() if done else None
