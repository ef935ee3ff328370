"""Whether pods can have user namespaces on this host with this runtime: tried with all that a real one takes.

That is crid-userns, a file system that maps owners, an overlay that takes such layers (Linux 5.19), and a runtime that joins
the pinned namespaces. A kernel or a distribution may lack any of them, or forbid them.
"""

import asyncio
import errno
import logging
import os
import shutil
from pathlib import Path

from crid.errors import CridError
from crid.linux.kernel import Kernel
from crid.log import fields
from crid.model.idmap import IdMap, IdRange
from crid.model.mount import Mount
from crid.oci import probe
from crid.oci.program import RuntimeProgram

logger = logging.getLogger(__name__)

_MAP = IdMap.of(IdRange(1_000_000, 65_536), IdRange(1_000_000, 65_536))
"""Any ids do, as long as the host's root is not among them."""
_KINDS = ("net", "ipc", "uts")
_OCI_KINDS = {"user": "user", "net": "network", "ipc": "ipc", "uts": "uts"}


async def why_no_user_namespaces(program: RuntimeProgram, kernel: Kernel, userns_program: Path, directory: Path) -> str | None:
    """Create a container in a user namespace and remove it again; return None if that worked, else the reason.

    `directory` is where it is tried, on the file system of the layers; it is removed afterwards, and what an earlier attempt
    has left there is before. Where that is full nothing can be tried: then no reason is known until a pod meets it.
    """
    await probe.undo(program, directory)
    _clean(kernel, directory)
    try:
        (directory / "ns").mkdir(mode=0o711, parents=True)
        pinned = await asyncio.to_thread(kernel.pin_user_namespace, userns_program, directory / "ns", _KINDS, _MAP)
        linux = {
            "namespaces": [
                {"type": "mount"},
                {"type": "pid"},
                *({"type": _OCI_KINDS[kind], "path": path} for kind, path in pinned.items()),
            ],
            "uidMappings": _MAP.users.to_oci(),
            "gidMappings": _MAP.groups.to_oci(),
        }
        probe.write_bundle(directory, systemd_cgroup=program.systemd_cgroup, linux=linux)
        _put_under_overlay(kernel, directory, pinned["user"])
        return await probe.why_not_created(program, directory)
    except (OSError, CridError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            logger.warning("user namespaces could not be tried%s", fields(runtime=program.name, why=error))
            return None
        return str(error)
    finally:
        _clean(kernel, directory)


def _put_under_overlay(kernel: Kernel, directory: Path, user_namespace: str) -> None:
    """Make the bundle's root file system the only layer, owners mapped, of an overlay that takes its place.

    The place must be another directory: a mount on one that is shown elsewhere, too, would propagate there.
    """
    (directory / "rootfs").rename(directory / "layer")
    for name in ("rootfs", "lower", "upper", "work"):
        (directory / name).mkdir(mode=0o755)
    os.chown(directory / "upper", *_MAP.root)
    rootfs, lower = str(directory / "rootfs"), str(directory / "lower")
    kernel.mount_idmapped(str(directory / "layer"), lower, user_namespace)
    options = (f"lowerdir={lower}", f"upperdir={directory}/upper", f"workdir={directory}/work")
    kernel.perform(Mount(rootfs, "overlay", "overlay", options))
    kernel.unmount(lower)


def _clean(kernel: Kernel, directory: Path) -> None:
    kernel.unmount_all_below(str(directory))
    shutil.rmtree(directory, ignore_errors=True)
