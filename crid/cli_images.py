"""`crid image ...`: images for people who have no client at hand.

Where a daemon holds the lock of the root directory it is asked, through its socket; where none does, the store is used
directly, under that lock. An export reads files only and needs neither.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from crid.assembly import image_service, import_images, locked
from crid.cli_progress import Progress, Transfer
from crid.config import Config
from crid.cri import api_pb2 as cri
from crid.cri.api_pb2_grpc import ImageServiceStub
from crid.errors import AlreadyExistsError, CridError, InvalidArgumentError, NotFoundError
from crid.image.exporter import export
from crid.image.registries_file import load
from crid.image.service import ImageService
from crid.server.images import image_message
from crid.tasks import Supervisor

if TYPE_CHECKING:
    from crid.cri.api_pb2_grpc import ImageServiceAsyncStub  # in the stub file only

_REDRAW = 0.2
_CLOSING = 5.0

T = TypeVar("T")


def run(settings: Config, options: argparse.Namespace) -> int:
    """Do what `options.verb` says and return the exit status. Raises CridError, OSError."""
    verbs = {"pull": _pull, "export": _export, "import": _import, "list": _list, "remove": _remove}
    return verbs[options.verb](settings, options)


def _pull(settings: Config, options: argparse.Namespace) -> int:
    auth = None
    if options.username:
        auth = cri.AuthConfig(username=options.username, password=sys.stdin.readline().rstrip("\n"))
    spec = cri.ImageSpec(image=options.name)

    async def directly(images: ImageService) -> str:
        return (await _shown(images.pull(options.name, auth), lambda: _transfers(images))).id

    async def asking(daemon: ImageServiceAsyncStub) -> str:
        call = daemon.PullImage(cri.PullImageRequest(image=spec, auth=auth))
        partial = Path(settings.root, "images", "partial")
        return str((await _shown(_answer(call), lambda: _parts(partial))).image_ref)

    print(asyncio.run(_either(settings, directly, asking)))
    return 0


def _list(settings: Config, options: argparse.Namespace) -> int:
    async def directly(images: ImageService) -> list[cri.Image]:
        return [image_message(image) for image in images.list_images()]

    async def asking(daemon: ImageServiceAsyncStub) -> list[cri.Image]:
        return list((await daemon.ListImages(cri.ListImagesRequest())).images)

    for image in asyncio.run(_either(settings, directly, asking)):
        names = image.repo_tags or image.repo_digests or ["-"]
        print(image.id.removeprefix("sha256:")[:12], f"{image.size / (1 << 20):8.1f} MiB ", *names, *["pinned"] * image.pinned)
    return 0


def _remove(settings: Config, options: argparse.Namespace) -> int:
    async def directly(images: ImageService) -> None:
        for name in options.names:
            images.resolve(name)
            await images.remove(name)

    async def asking(daemon: ImageServiceAsyncStub) -> None:
        for name in options.names:
            spec = cri.ImageSpec(image=name)
            if not (await daemon.ImageStatus(cri.ImageStatusRequest(image=spec))).HasField("image"):
                raise NotFoundError(f"image {name}: not found")
            await daemon.RemoveImage(cri.RemoveImageRequest(image=spec))

    asyncio.run(_either(settings, directly, asking))
    return 0


def _import(settings: Config, options: argparse.Namespace) -> int:
    for image in asyncio.run(import_images(settings, options.path, options.name)):
        print(image.id, *image.repo_tags)
    return 0


def _export(settings: Config, options: argparse.Namespace) -> int:
    try:
        names = [str(name) for name in load(Path(settings.image.registries_conf)).candidates(options.name)]
    except InvalidArgumentError:
        names = []  # an id cannot be a name
    print(export(Path(settings.root), [*names, options.name], options.path) or options.name, options.path)
    return 0


async def _either(
    settings: Config,
    directly: Callable[[ImageService], Coroutine[Any, Any, T]],
    asking: Callable[[ImageServiceAsyncStub], Coroutine[Any, Any, T]],
) -> T:
    """Use the store if nobody else does, else ask the daemon. Raises CridError for what the daemon answers, too."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(Path(settings.root)))
        except AlreadyExistsError:
            async with grpc.aio.insecure_channel(f"unix:{settings.api.listen.removeprefix('unix://')}") as channel:
                try:
                    return await asking(ImageServiceStub(channel))
                except grpc.aio.AioRpcError as error:
                    raise CridError(error.details() or error.code().name) from None
        async with _store(settings) as images:
            return await directly(images)


@contextlib.asynccontextmanager
async def _store(settings: Config) -> AsyncIterator[ImageService]:
    supervisor = Supervisor("image")
    images = image_service(settings, supervisor)
    try:
        yield images
    finally:
        await supervisor.close(_CLOSING)
        await images.close()


async def _shown(work: Coroutine[Any, Any, T], transfers: Callable[[], dict[str, Transfer]]) -> T:
    """Await `work` and draw what is under way meanwhile."""
    progress = Progress()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_outcome(work))
        while not task.done():
            progress.update(transfers())
            await asyncio.wait([task], timeout=_REDRAW)
    progress.close()
    result = task.result()
    if isinstance(result, Exception):
        raise result
    return result


async def _outcome(work: Coroutine[Any, Any, T]) -> T | Exception:
    try:
        return await work
    except Exception as error:
        return error


async def _answer(call: grpc.aio.UnaryUnaryCall[cri.PullImageRequest, cri.PullImageResponse]) -> cri.PullImageResponse:
    return await call


def _transfers(images: ImageService) -> dict[str, Transfer]:
    return {blob.digest: Transfer(received, blob.size) for blob, received in images.downloads()}


def _parts(directory: Path) -> dict[str, Transfer]:
    """Return what a daemon is downloading: the CRI does not tell, but the parts grow where they are."""
    found = {}
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            found[f"sha256:{path.name}"] = Transfer(path.stat().st_size)
    return found
