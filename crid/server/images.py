"""ImageService: its RPCs."""

import time
from collections.abc import AsyncIterator, Iterator

from crid.cri import api_pb2 as cri
from crid.cri.api_pb2_grpc import ImageServiceServicer
from crid.errors import InvalidArgumentError
from crid.image.service import FilesystemUsage, ImageService
from crid.model.image import Image
from crid.oci.runtime import Runtime
from crid.server.chunks import chunks
from crid.server.typing import Context


class ImageServicer(ImageServiceServicer):
    """Serves images out of an `ImageService`."""

    def __init__(self, images: ImageService, runtime: Runtime) -> None:
        self._images = images
        self._runtime = runtime

    async def ListImages(self, request: cri.ListImagesRequest, context: Context) -> cri.ListImagesResponse:
        """List images; a filter names one by tag, digest or id."""
        return cri.ListImagesResponse(images=self._listed_images(request.filter))

    async def StreamImages(self, request: cri.StreamImagesRequest, context: Context) -> AsyncIterator[cri.StreamImagesResponse]:
        """ListImages in pieces."""
        for piece in chunks(self._listed_images(request.filter)):
            yield cri.StreamImagesResponse(images=piece)

    def _listed_images(self, wanted: cri.ImageFilter) -> Iterator[cri.Image]:
        return map(image_message, self._images.list_images(wanted.image.image))

    async def ImageStatus(self, request: cri.ImageStatusRequest, context: Context) -> cri.ImageStatusResponse:
        """Report one image; a missing one is an empty answer, not an error."""
        reference = _reference(request.image)
        image = self._images.status(reference)
        if image is None:
            return cri.ImageStatusResponse()
        return cri.ImageStatusResponse(image=image_message(image))

    async def PullImage(self, request: cri.PullImageRequest, context: Context) -> cri.PullImageResponse:
        """Pull an image and return its id. The pull goes on if this caller gives up, for the next one to join."""
        reference = _reference(request.image)
        self._runtime.resolve(request.image.runtime_handler)
        auth = request.auth if request.HasField("auth") else None
        image = await self._images.pull(reference, auth, request.sandbox_config.metadata.namespace)
        return cri.PullImageResponse(image_ref=image.id)

    async def RemoveImage(self, request: cri.RemoveImageRequest, context: Context) -> cri.RemoveImageResponse:
        """Remove an image with all its names. Idempotent."""
        await self._images.remove(_reference(request.image))
        return cri.RemoveImageResponse()

    async def ImageFsInfo(self, request: cri.ImageFsInfoRequest, context: Context) -> cri.ImageFsInfoResponse:
        """Report what images occupy, from kept counters, and containers' layers, where those are kept apart."""
        containers = await self._images.containers_fs_usage()
        return cri.ImageFsInfoResponse(
            image_filesystems=[_usage_message(self._images.fs_usage())], container_filesystems=[_usage_message(containers)]
        )


def _usage_message(usage: FilesystemUsage) -> cri.FilesystemUsage:
    return cri.FilesystemUsage(
        timestamp=time.time_ns(),
        fs_id=cri.FilesystemIdentifier(mountpoint=usage.mountpoint),
        used_bytes=cri.UInt64Value(value=usage.used_bytes),
        inodes_used=cri.UInt64Value(value=usage.inodes_used),
    )


def image_message(image: Image) -> cri.Image:
    """Return the image as the CRI shows it. A numeric user is given as uid, any other as its name; a group is left out."""
    user = image.process.user.partition(":")[0]
    message = cri.Image(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size,
        spec=cri.ImageSpec(image=image.id),
        pinned=image.pinned,
    )
    if user.isdecimal() and len(user) < 19:
        message.uid.value = int(user)
    else:
        message.username = user
    return message


def _reference(image: cri.ImageSpec) -> str:
    if not image.image:
        raise InvalidArgumentError("ImageSpec.image is empty")
    return image.image
