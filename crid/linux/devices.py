"""Device nodes of the host: one that a container was promised, or all of them for a privileged container."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from crid.model.device import Device

# What the runtime mounts or makes afresh in each container, and what holds no devices of its own.
_SKIPPED = frozenset(("pts", "shm", "mqueue", "fd", "hugepages", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"))


def device_at(path: str) -> Device:
    """Return the device at `path`, links followed. Raises OSError naming the path, ENODEV if that is something else."""
    if (device := _device(path, Path(path).stat())) is None:
        raise OSError(errno.ENODEV, "is no device", path)
    return device


def host_devices(directory: str = "/dev") -> list[Device]:
    """Return the devices below `directory`, sorted by path; links and what each container gets anew are left out.

    What vanishes meanwhile is left out too. Raises OSError if `directory` cannot be read.
    """
    return sorted(_devices(directory, _SKIPPED), key=lambda device: device.path)


def devices_below(path: str) -> list[Device]:
    """Return the device at `path`, or all devices below if it is a directory, as clients may name either.

    Raises OSError naming the path; the list is empty if it is neither.
    """
    if Path(path).is_dir():
        return sorted(_devices(path, frozenset()), key=lambda device: device.path)
    device = _device(path, Path(path).stat())
    return [device] if device else []


def block_device_path(major: int, minor: int) -> str:
    """Return the path of a block device as the kernel names it (/dev/sda1); `major:minor` if it has none, as the devices of
    file systems that span several, or of none (sysfs, "Rules on how to access information in sysfs")."""
    try:
        name = Path(f"/sys/dev/block/{major}:{minor}").readlink().name
    except OSError:
        return f"{major}:{minor}"
    return f"/dev/{name.replace('!', '/')}"


def _devices(directory: str, skipped: frozenset[str]) -> Iterator[Device]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name in skipped:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _devices(entry.path, frozenset())
                elif device := _device(entry.path, entry.stat(follow_symlinks=False)):
                    yield device
            except FileNotFoundError:
                continue


def _device(path: str, status: os.stat_result) -> Device | None:
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return Device(path, kind, major, minor, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
