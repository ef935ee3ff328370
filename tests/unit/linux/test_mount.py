import errno
from pathlib import Path

import pytest

from crid.linux import mount
from crid.model.mount import Mount


def test_is_mount_point(tmp_path: Path) -> None:
    assert mount.is_mount_point("/")
    assert mount.is_mount_point("/proc")
    assert not mount.is_mount_point("/proc/self")
    assert not mount.is_mount_point(str(tmp_path))
    assert not mount.is_mount_point(str(tmp_path / "missing"))
    assert not mount.is_mount_point("/proc/version/below-a-file")


def test_a_link_to_a_mount_point_is_none(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/proc")
    assert not mount.is_mount_point(str(link))


def test_mounts_below_keeps_to_whole_names() -> None:
    assert mount.mounts_below("/proc")[0] == "/proc"
    assert mount.mounts_below("/pro") == []
    assert "/proc" in mount.mounts_below("/")


def test_unmounting_what_is_not_mounted_names_call_and_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"umount2: .*" + tmp_path.name) as caught:
        mount.unmount(str(tmp_path))
    assert caught.value.errno in (errno.EINVAL, errno.EPERM)


def test_a_bind_mount_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a bind mount has no option 'size=1k'"):
        mount.perform(Mount(str(tmp_path), str(tmp_path), "bind", ("rbind", "size=1k")))
    assert mount.mounts_below(str(tmp_path)) == []
