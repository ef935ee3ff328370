"""Directories that a container is given though no client asked for them: its image's VOLUMEs, and the node's default mounts.

An image's VOLUME is a directory that is to be there and to be written to (OCI image-spec, config.md). The configuration
says how: `mkdir` makes it in the container's root file system, `bind` gives it a directory of the host, which is gone with the
container, `ignore` does nothing. One that lies at or below a mount of the client's is the client's.

A default mount (containers-mounts.conf(5)) is a copy of a directory of the host, so that no container changes another's.
"""

import logging
import os
import posixpath
import shutil
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.errors import CridError
from crid.linux.openat2 import open_in_root
from crid.log import fields
from crid.model.idmap import IdMap
from crid.model.image import Image
from crid.oci.spec.policy import Policy

logger = logging.getLogger(__name__)


def make(
    rules: Policy, image: Image, config: cri.ContainerConfig, *, rootfs: Path, bundle: Path, kept: Path, idmap: IdMap | None
) -> dict[str, str]:
    """Make the directories and return what is to be mounted: the source of each target.

    What `bind` gives lies below `kept`, on the disk, copies below `bundle`; whoever removes those removes all. Blocks as
    long as copies are large. Raises CridError naming what cannot be made.
    """
    taken = {posixpath.normpath(mount.container_path) for mount in config.mounts}
    found = {}
    for index, (source, target) in enumerate(rules.default_mounts):
        if not _within(target, taken) and Path(source).exists():
            found[target] = _copied(Path(source), bundle / "defaults" / str(index), idmap)
    for index, target in enumerate(_volumes(image)):
        if _within(target, taken) or target in found:
            continue
        if rules.image_volumes == "mkdir":
            _make_within(rootfs, target)
        elif rules.image_volumes == "bind":
            found[target] = str(_volume(kept / "volumes" / str(index), rootfs, target, idmap))
    return found


def _within(target: str, taken: set[str]) -> bool:
    return target in taken or any(target.startswith(f"{each}/") for each in taken)


def _volumes(image: Image) -> list[str]:
    """Return the absolute, cleaned paths of the image's VOLUMEs; what is none is left out."""
    cleaned = ("/" + posixpath.normpath(path).lstrip("/") for path in image.process.volumes if "\0" not in path)
    return [path for path in cleaned if path != "/" and ".." not in path.split("/")]


def _make_within(rootfs: Path, target: str) -> None:
    """Make the directory `target` and those above it; links of the image stay inside of it."""
    above = ""
    for part in target.strip("/").split("/"):
        try:
            parent = open_in_root(rootfs, above or ".", os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            logger.warning("a volume of the image cannot be made%s", fields(volume=target, error=error))
            return
        try:
            os.mkdir(part, 0o755, dir_fd=parent)
        except FileExistsError:
            pass
        finally:
            os.close(parent)
        above = f"{above}/{part}".lstrip("/")


def _volume(path: Path, rootfs: Path, target: str, idmap: IdMap | None) -> Path:
    """Make a directory of the host for a volume, with owner and mode of the image's own directory there."""
    path.mkdir(mode=0o755, parents=True)
    path.chmod(0o755)
    owner = idmap.root if idmap else (0, 0)
    try:
        descriptor = open_in_root(rootfs, target.lstrip("/"), os.O_PATH | os.O_DIRECTORY)
    except OSError:
        pass  # the image has none: the runtime makes where it is mounted
    else:
        status = os.fstat(descriptor)
        os.close(descriptor)
        path.chmod(status.st_mode & 0o7777)
        owner = status.st_uid, status.st_gid
    os.chown(path, *owner)
    return path


def _dangling(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if not Path(directory, name).exists()]


def _copied(source: Path, target: Path, idmap: IdMap | None) -> str:
    """Copy what is at `source`, links followed, for the root of the container."""
    target.parent.mkdir(mode=0o711, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, target, ignore=_dangling)
        else:
            shutil.copy(source, target)
    except (OSError, shutil.Error) as error:
        raise CridError(f"default_mounts_file: {source} cannot be copied: {error}") from error
    if idmap is not None:
        for path in (target, *target.rglob("*")):
            os.chown(path, *idmap.root)
    return str(target)
