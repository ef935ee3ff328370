"""`crid image ...`: images for people who have no client at hand.

Where a daemon holds the lock of the root directory it is asked, through its socket; where none does, the store is used
directly, under that lock. An export reads files only and needs neither.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict

from crid.assembly.locks import locked
from crid.assembly.providers import image_service
from crid.cli_progress import Progress
from crid.config import Config
from crid.cri import admin_pb2 as admin
from crid.cri import api_pb2 as cri
from crid.cri.admin_pb2_grpc import AdminServiceStub
from crid.cri.api_pb2_grpc import ImageServiceStub
from crid.errors import AlreadyExistsError, CridError, InvalidArgumentError, NotFoundError, UnavailableError
from crid.image.exporter import export
from crid.image.registries_file import load
from crid.image.service import ImageService
from crid.image.transfers import Transfer, Transfers, Watch
from crid.model.digest import hexadecimal
from crid.server.images import image_message
from crid.tasks import Supervisor

if TYPE_CHECKING:
    from crid.cri.admin_pb2_grpc import AdminServiceAsyncStub  # in the stub files only
    from crid.cri.api_pb2_grpc import ImageServiceAsyncStub

_REDRAW = 0.2
_CLOSING = 5.0
_LIMIT = 80 << 20
"""Bytes of one message, as the daemon has it."""

T = TypeVar("T")


def run(settings: Config, options: argparse.Namespace) -> int:
    """Do what `options.verb` says and return the exit status. Raises CridError, OSError."""
    verbs = {"pull": _pull, "export": _export, "import": _import, "list": _list, "remove": _remove}
    return verbs[options.verb](settings, options)


def _pull(settings: Config, options: argparse.Namespace) -> int:
    auth = None
    if options.username:
        auth = cri.AuthConfig(username=options.username, password=sys.stdin.readline().rstrip("\n"))

    async def directly(images: ImageService) -> str:
        return (await _shown(lambda watch: images.pull(options.name, auth, watch=watch))).id

    async def asking(daemon: _Daemon) -> str:
        progress, identifier = Progress(), ""
        async for message in daemon.admin.PullImage(admin.PullImageRequest(image=options.name, auth=auth)):
            progress.update(_transfers(message.transfers))
            identifier = message.image_id
        return identifier

    print(asyncio.run(_either(settings, directly, asking)))
    return 0


def _import(settings: Config, options: argparse.Namespace) -> int:
    path = options.path.absolute()

    async def directly(images: ImageService) -> list[cri.Image]:
        found = await _shown(lambda watch: images.import_path(path, options.name, watch=watch))
        return [image_message(image) for image in found]

    async def asking(daemon: _Daemon) -> list[cri.Image]:
        progress, images = Progress(), []
        async for message in daemon.admin.ImportImages(admin.ImportImagesRequest(path=str(path), name=options.name or "")):
            progress.update(_transfers(message.transfers))
            images = list(message.images)
        return images

    for image in asyncio.run(_either(settings, directly, asking)):
        print(image.id, *image.repo_tags)
    return 0


def _list(settings: Config, options: argparse.Namespace) -> int:
    async def directly(images: ImageService) -> list[cri.Image]:
        return [image_message(image) for image in images.list_images()]

    async def asking(daemon: _Daemon) -> list[cri.Image]:
        return list((await daemon.images.ListImages(cri.ListImagesRequest())).images)

    found = asyncio.run(_either(settings, directly, asking))
    if options.json:
        print(
            json.dumps(
                {"images": [MessageToDict(image, always_print_fields_with_no_presence=True) for image in found]}, indent=2
            )
        )
        return 0
    rows = [("ID", "SIZE", "NAME"), *(row for image in found for row in _rows(image))]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for identifier, size, name in rows:
        print(f"{identifier:<{widths[0]}}  {size:>{widths[1]}}  {name}")
    return 0


def _rows(image: cri.Image) -> list[tuple[str, str, str]]:
    """Return a row a name."""
    identifier, size = hexadecimal(image.id)[:12], f"{image.size / (1 << 20):.1f} MiB"
    names = image.repo_tags or image.repo_digests or ["-"]
    return [(identifier, size, f"{name} (pinned)" if image.pinned else name) for name in names]


def _remove(settings: Config, options: argparse.Namespace) -> int:
    async def directly(images: ImageService) -> None:
        for name in options.names:
            images.resolve(name)
            await images.remove(name)

    async def asking(daemon: _Daemon) -> None:
        for name in options.names:
            spec = cri.ImageSpec(image=name)
            if not (await daemon.images.ImageStatus(cri.ImageStatusRequest(image=spec))).HasField("image"):
                raise NotFoundError(f"image {name}: not found")
            await daemon.images.RemoveImage(cri.RemoveImageRequest(image=spec))

    asyncio.run(_either(settings, directly, asking))
    return 0


def _export(settings: Config, options: argparse.Namespace) -> int:
    try:
        names = [str(name) for name in load(Path(settings.image.registries_conf)).candidates(options.name)]
    except InvalidArgumentError:
        names = []  # an id cannot be a name
    roots = [Path(settings.image.imagestore or settings.root), *map(Path, settings.image.additional_image_stores)]
    print(export(roots, [*names, options.name], options.path) or options.name, options.path)
    return 0


class _Daemon:
    """The services of a daemon that runs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.images: ImageServiceAsyncStub = ImageServiceStub(channel)
        self.admin: AdminServiceAsyncStub = AdminServiceStub(channel)


async def _either(
    settings: Config,
    directly: Callable[[ImageService], Coroutine[Any, Any, T]],
    asking: Callable[[_Daemon], Coroutine[Any, Any, T]],
) -> T:
    """Use the store if nobody else does, else ask the daemon. Raises CridError for what the daemon answers, too."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(settings))
        except AlreadyExistsError as held:
            socket = settings.api.listen.removeprefix("unix://")
            async with grpc.aio.insecure_channel(
                f"unix:{socket}", options=[("grpc.max_receive_message_length", _LIMIT)]
            ) as channel:
                try:
                    return await asking(_Daemon(channel))
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNAVAILABLE and not Path(socket).exists():
                        raise UnavailableError(f"{held}, and serves no socket {socket}") from None
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


async def _shown(begin: Callable[[Watch], Coroutine[Any, Any, T]]) -> T:
    """Do the work and draw meanwhile how far it is."""
    seen: list[Transfers] = []
    progress = Progress()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_outcome(begin(seen.append)))
        while not task.done():
            await asyncio.wait([task], timeout=_REDRAW)
            progress.update([one for part in seen for one in part.now()])
    result = task.result()
    if isinstance(result, Exception):
        raise result
    return result


async def _outcome(work: Coroutine[Any, Any, T]) -> T | Exception:
    try:
        return await work
    except Exception as error:
        return error


def _transfers(messages: Sequence[admin.Transfer]) -> list[Transfer]:
    return [Transfer(message.digest, message.received, message.total) for message in messages]
