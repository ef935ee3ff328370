"""The mounts that a container's config asks for: host paths and images, and the rules for their options.

`check` needs nothing but the config and is called before anything of the container exists; `build` finds everything that
`check` has let through in the inputs. Images, and host paths whose files' owners are mapped, are mounted by crid itself
(crid.lifecycle.volumes): the runtimes of today's distributions cannot do either. For the runtime they are bind mounts.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.model.idmap import IdMap
from crid.oci.spec import absolute, userns
from crid.oci.spec.inputs import Host, SpecInputs, Volume

EXTRA_OPTIONS = ("noexec", "nodev", "nosuid")
"""What Mount.mount_options may add (KEP-5855)."""

IMAGE_VOLUME_FAILED = "ImageVolumeMountFailed"
RRO_UNSUPPORTED = "RROUnsupported"
"""Words that the kubelet looks for at the beginning of a message, to tell users more (cri-api, pkg/errors)."""

PROPAGATION = {
    cri.MountPropagation.PROPAGATION_PRIVATE: "rprivate",
    cri.MountPropagation.PROPAGATION_HOST_TO_CONTAINER: "rslave",
    cri.MountPropagation.PROPAGATION_BIDIRECTIONAL: "rshared",
}


def check(config: cri.ContainerConfig, host: Host, idmap: IdMap | None) -> None:
    """Refuse mounts that contradict themselves, the pod's user namespace `idmap` or what the host can do.

    Raises InvalidArgumentError or FailedPreconditionError naming the field.
    """
    for index, mount in enumerate(config.mounts):
        field = f"mounts[{index}]"
        target(mount.container_path, f"{field}.container_path")
        if mount.propagation not in PROPAGATION:
            raise InvalidArgumentError(f"{field}.propagation: unknown mode {mount.propagation}")
        for option in mount.mount_options:
            if option not in EXTRA_OPTIONS:
                raise InvalidArgumentError(f"{field}.mount_options: {option[:64]!r} is none of {', '.join(EXTRA_OPTIONS)}")
        _check_recursive_read_only(mount, field, host)
        userns.check_volume(mount, field, idmap)
        if mount.HasField("image"):
            _check_image(mount, field)
        elif mount.image_sub_path:
            raise InvalidArgumentError(f"{field}.image_sub_path: given without an image")
        else:
            absolute.require(mount.host_path, f"{field}.host_path")


def _check_recursive_read_only(mount: cri.Mount, field: str, host: Host) -> None:
    """Recursive read-only is all or an error, never silently less (CRI, Mount)."""
    if not mount.recursive_read_only:
        return
    if not mount.readonly:
        raise InvalidArgumentError(f"{field}.recursive_read_only: wants readonly")
    if mount.propagation != cri.MountPropagation.PROPAGATION_PRIVATE:
        raise InvalidArgumentError(f"{field}.recursive_read_only: wants PROPAGATION_PRIVATE")
    if not host.recursive_read_only:
        raise FailedPreconditionError(f"{RRO_UNSUPPORTED}: {field}.recursive_read_only: this host or runtime cannot do it")


def _check_image(mount: cri.Mount, field: str) -> None:
    """An image is mounted read-only and alone (KEP-4639)."""
    if not mount.image.image:
        raise InvalidArgumentError(f"{field}.image.image: is empty")
    if mount.host_path:
        raise InvalidArgumentError(f"{field}.host_path: must be empty beside an image")
    if not mount.readonly:
        raise InvalidArgumentError(f"{field}.readonly: an image can only be mounted read-only")
    if mount.propagation != cri.MountPropagation.PROPAGATION_PRIVATE:
        raise InvalidArgumentError(f"{field}.propagation: nothing is mounted into an image, so it must be PROPAGATION_PRIVATE")
    path = mount.image_sub_path
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise InvalidArgumentError(
            f"{IMAGE_VOLUME_FAILED}: {field}.image_sub_path: {path[:128]!r} is not a path within the image"
        )


def build(inputs: SpecInputs) -> list[dict[str, Any]]:
    """Return the bind mounts of the config in its order. Raises NotFoundError for a host path that does not exist."""
    found = []
    for index, mount in enumerate(inputs.config.mounts):
        if index in inputs.volumes:
            source = inputs.volumes[index].path
        elif mount.host_path in inputs.sources:
            source = inputs.sources[mount.host_path]
        else:
            raise NotFoundError(f"mounts[{index}].host_path: {mount.host_path[:128]!r} does not exist")
        access = "rro" if mount.recursive_read_only else "ro" if mount.readonly else "rw"
        if is_for_logs(mount, inputs):
            source, access = inputs.sandbox.config.log_directory, "ro"
        options = ["rbind", PROPAGATION[mount.propagation], access, *mount.mount_options]
        destination = target(mount.container_path, f"mounts[{index}].container_path")
        found.append({"destination": destination, "type": "bind", "source": source, "options": options})
    return found


def is_for_logs(mount: cri.Mount, inputs: SpecInputs) -> bool:
    """Whether `mount` is the emptyDir volume, by its place in the kubelet's directory, that is to show the pod's logs.

    They are shown instead of it, and read-only: whoever could write there could have the kubelet follow links of his.
    """
    name, pod = inputs.asked.link_logs, inputs.sandbox.config
    volume = f"/pods/{pod.metadata.uid}/volumes/kubernetes.io~empty-dir/{name}"
    return bool(name and pod.log_directory) and mount.host_path.rstrip("/").endswith(volume)


def reported(config: cri.ContainerConfig, volumes: Mapping[int, Volume]) -> tuple[cri.Mount, ...]:
    """Return the mounts for ContainerStatus: as asked for, images with the id of what was mounted (KEP-5365)."""
    found = []
    for index, asked in enumerate(config.mounts):
        mount = cri.Mount()
        mount.CopyFrom(asked)
        if index in volumes and volumes[index].image_id:
            mount.image.image_ref = volumes[index].image_id
        found.append(mount)
    return tuple(found)


def target(path: str, field: str) -> str:
    """Return the cleaned absolute path of a mount's target. Raises InvalidArgumentError."""
    cleaned = "/" + posixpath.normpath(absolute.require(path, field)).lstrip("/")
    if cleaned == "/":
        raise InvalidArgumentError(f"{field}: the root file system itself cannot be a mount's target")
    return cleaned
