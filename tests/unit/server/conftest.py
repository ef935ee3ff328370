from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio

from crid.config import Config
from crid.cri import api_pb2 as cri
from crid.image.service import FilesystemUsage, ImageService
from crid.lifecycle.stats import Stats
from crid.lifecycle.streams import StreamsLifecycle
from crid.model.image import Image
from crid.oci.probe import RuntimeFeatures
from crid.server.admin import AdminServicer
from crid.server.images import ImageServicer
from crid.server.listener import Listener
from crid.server.runtime import RuntimeServicer
from crid.streaming.server import StreamingServer
from crid.tasks import Supervisor
from tests.unit.lifecycle.world import FakeImages, World, build


class ServedImages(FakeImages):
    """What ImageServicer asks for besides."""

    def list_images(self, name: str = "") -> list[Image]:
        return [image for image in self.images.values() if not name or name in image.repo_tags]

    def status(self, reference: str) -> Image | None:
        return self.images.get(reference)

    async def pull(self, reference: str, auth: cri.AuthConfig | None = None, namespace: str = "") -> Image:
        return self.resolve(reference)

    async def remove(self, reference: str) -> None:
        self.images.pop(reference, None)

    def fs_usage(self) -> FilesystemUsage:
        return FilesystemUsage("/var/lib/crid", 5, 6)

    async def containers_fs_usage(self) -> FilesystemUsage:
        return self.fs_usage()


@dataclass
class Served:
    """A daemon's socket, and what is behind it."""

    world: World
    servicer: RuntimeServicer
    channel: aio.Channel
    observed: list[tuple[str, str, float | None]] = field(default_factory=list)
    """What the server told of the RPCs that it served."""

    async def call(self, name: str, request: Any = None) -> Any:
        """Call the RPC, of whichever service has it, and return its answer, or the list of those that it streams."""
        service, method = METHODS[name]
        kind: type[Message] = getattr(cri, method.input_type.name)
        answer: type[Message] = getattr(cri, method.output_type.name)
        arguments = (f"/{service}/{name}", kind.SerializeToString, answer.FromString)
        message = kind() if request is None else request
        if method.server_streaming:
            return [item async for item in self.channel.unary_stream(*arguments)(message)]
        return await self.channel.unary_unary(*arguments)(message)

    async def refused(self, name: str, request: Any = None) -> tuple[grpc.StatusCode, str]:
        """Call the RPC, which fails, and return its status."""
        with pytest.raises(aio.AioRpcError) as raised:
            await self.call(name, request)
        return raised.value.code(), raised.value.details() or ""


METHODS = {
    method.name: (service.full_name, method)
    for service in cri.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """The gRPC server over fakes, on a socket, and a client."""
    supervisor = Supervisor("test")
    world = build(tmp_path, supervisor)
    images = ServedImages(tmp_path / "layers")
    object.__setattr__(world.parts, "images", cast(ImageService, images))
    world.images = images
    world.follow()
    features = {name: RuntimeFeatures(name, "1", recursive_read_only=True) for name in world.parts.runtime.names}
    streams = StreamsLifecycle(world.parts)
    servicer = RuntimeServicer(
        world.parts,
        Config(),
        features,
        world.sandboxes,
        world.containers,
        world.execs,
        Stats(world.parts),
        streams,
        StreamingServer(Config().api, streams),
        world.events,
    )
    path = tmp_path / "crid.sock"
    served_images = ImageServicer(world.parts.images, world.parts.runtime)
    observed: list[tuple[str, str, float | None]] = []
    admin = AdminServicer(world.parts.images, supervisor)
    listener = Listener(f"unix://{path}", servicer, served_images, admin, lambda *told: observed.append(told))
    await listener.start()
    async with aio.insecure_channel(f"unix://{path}") as channel:
        yield Served(world, servicer, channel, observed)
    await listener.stop(0)
    await world.unfollow()
    await supervisor.close(0)
