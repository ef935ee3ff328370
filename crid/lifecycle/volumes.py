"""Mounts of a container that crid makes itself, below its bundle, and that the runtime then binds into the container:

    <bundle>/volumes/<index>   an image or an artifact (Mount.image), or a host path with mapped owners (Mount.uidMappings)
    <bundle>/lower/<number>    all layers with mapped owners, only while an overlay over some of them is being mounted

They go with the bundle: whoever discards it unmounts everything below. An image's layers stay as long as the container's
root file system, whose snapshot names them, even when the image is removed meanwhile.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.lifecycle.parts import Parts
from crid.linux import mountinfo
from crid.linux.openat2 import open_beneath
from crid.model.image import Image
from crid.oci.spec.client_mounts import IMAGE_VOLUME_FAILED
from crid.oci.spec.inputs import Volume


def images(parts: Parts, config: cri.ContainerConfig, namespace: str) -> dict[int, Image]:
    """Return the image or artifact of each mount that is one, by the mount's index; the pod is in `namespace`.

    Raises NotFoundError if one is not there, PermissionDeniedError if the signature policy refuses it, FailedPreconditionError.
    """
    found = {}
    for index, mount in enumerate(config.mounts):
        if mount.HasField("image"):
            found[index] = parts.images.mountable(mount.image.image)
            parts.images.check_policy(found[index], mount.image.user_specified_image, namespace)
    return found


def check_propagation(config: cri.ContainerConfig, sources: Mapping[str, str]) -> None:
    """Refuse propagation from or to a mount of the host that does not take part in any (mount_namespaces(7)).

    `sources` says where host paths lead.

    Raises FailedPreconditionError naming the field.
    """
    wanted = {
        cri.MountPropagation.PROPAGATION_HOST_TO_CONTAINER: {"shared", "master"},
        cri.MountPropagation.PROPAGATION_BIDIRECTIONAL: {"shared"},
    }
    entries: list[mountinfo.MountEntry] = []
    for index, mount in enumerate(config.mounts):
        if mount.propagation not in wanted:
            continue
        entries = entries or mountinfo.read()
        path = sources[mount.host_path]
        entry = mountinfo.holding(entries, path)
        if not wanted[mount.propagation] & entry.propagation:
            word = "shared" if mount.propagation == cri.MountPropagation.PROPAGATION_BIDIRECTIONAL else "shared or slave"
            raise FailedPreconditionError(
                f"mounts[{index}].propagation: {path} is on the mount {entry.target}, which is not {word}"
            )


@contextlib.contextmanager
def mapped_layers(parts: Parts, bundle: Path, user_namespace: str) -> Iterator[Mapping[Path, Path]]:
    """Show all layers for the block with their owners as `user_namespace` maps them; yield where each directory that has
    layers is seen so, nothing if that is empty.

    An overlay that is mounted within the block keeps seeing its layers so. Raises OSError.
    """
    if not user_namespace:
        yield {}
        return
    with contextlib.ExitStack() as undo:
        seen_at = {}
        lower = _made(bundle / "lower", undo)
        for number, directory in enumerate(parts.images.layer_directories):
            target = _made(lower / str(number), undo)
            parts.kernel.mount_idmapped(str(directory), str(target), user_namespace)
            undo.callback(parts.kernel.unmount, str(target))
            seen_at[directory] = target
        yield seen_at


def _made(directory: Path, undo: contextlib.ExitStack) -> Path:
    directory.mkdir(mode=0o700)
    undo.callback(directory.rmdir)
    return directory


def mount_all(
    parts: Parts,
    bundle: Path,
    config: cri.ContainerConfig,
    found: dict[int, Image],
    sources: Mapping[str, str],
    *,
    user_namespace: str,
    seen_at: Mapping[Path, Path],
) -> dict[int, Volume]:
    """Mount what the runtime cannot, and return it by index; `seen_at` comes from `mapped_layers`, `sources` says where host
    paths lead. Blocks shortly.

    Raises InvalidArgumentError for a sub path that the image does not have, FailedPreconditionError for a file system
    that cannot map owners, OSError. What is mounted by then is below `bundle`.
    """
    volumes = {}
    for index, mount in enumerate(config.mounts):
        if index in found:
            target = _target(bundle, index, is_directory=True)
            parts.kernel.perform(parts.images.view(found[index], str(target), seen_at=seen_at))
            kind = 0 if found[index].artifact_type else os.O_DIRECTORY
            path = _below(target, mount.image_sub_path, f"mounts[{index}].image_sub_path", kind)
            volumes[index] = Volume(path, found[index].id)
        elif mount.uidMappings or mount.gidMappings:
            source = sources[mount.host_path]
            target = _target(bundle, index, is_directory=_is_directory(source, f"mounts[{index}].host_path"))
            try:
                parts.kernel.mount_idmapped(source, str(target), user_namespace)
            except OSError as error:
                raise FailedPreconditionError(
                    f"mounts[{index}].uidMappings: the file system of {source} cannot map owners: {error.strerror}"
                ) from error
            volumes[index] = Volume(str(target))
    return volumes


def _target(bundle: Path, index: int, *, is_directory: bool) -> Path:
    """Make something to mount on: only a file can be mounted on a file."""
    path = bundle / "volumes" / str(index)
    path.parent.mkdir(mode=0o711, exist_ok=True)
    if is_directory:
        path.mkdir(mode=0o711)
    else:
        path.touch(mode=0o600)
    return path


def _is_directory(path: str, field: str) -> bool:
    """Whether `path` is a directory; made as one if it is missing, as host paths are."""
    try:
        if not os.path.lexists(path):
            Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except OSError as error:
        raise InvalidArgumentError(f"{field}: {path} cannot be made: {error.strerror}") from error


def _below(root: Path, sub_path: str, field: str, kind: int) -> str:
    """Return the path of `sub_path` in the image mounted at `root`; no link of the image leads out of it. It must be a
    directory (`kind` is O_DIRECTORY); a file of an artifact (0) will do."""
    if not sub_path:
        return str(root)
    try:
        descriptor = open_beneath(root, sub_path, os.O_PATH | kind)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InvalidArgumentError(f"{IMAGE_VOLUME_FAILED}: {field}: {sub_path[:128]!r} in the image: {reason}") from error
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    finally:
        os.close(descriptor)
