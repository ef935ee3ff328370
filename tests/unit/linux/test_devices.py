from pathlib import Path

import pytest

from crid.linux import devices


def test_null() -> None:
    device = devices.device_at("/dev/null")
    assert (device.path, device.kind, device.major, device.minor) == ("/dev/null", "c", 1, 3)
    assert device.mode == 0o666
    assert (device.uid, device.gid) == (0, 0)


def test_host_devices_are_sorted_and_leave_out_what_is_made_anew() -> None:
    found = [device.path for device in devices.host_devices()]
    assert "/dev/null" in found
    assert found == sorted(found)
    assert not [path for path in found if path in ("/dev/console", "/dev/ptmx") or path.startswith(("/dev/pts/", "/dev/shm/"))]
    assert not any(Path(path).is_symlink() for path in found)


def test_links_are_followed_when_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    device = devices.device_at(str(tmp_path / "link"))
    assert device.minor == 5
    assert devices.host_devices(str(tmp_path)) == []


def test_what_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"is no device.*file"):
        devices.device_at(str(tmp_path / "file"))
    assert devices.devices_below(str(tmp_path)) == []
    assert devices.devices_below(str(tmp_path / "file")) == []
    with pytest.raises(FileNotFoundError, match="missing"):
        devices.device_at(str(tmp_path / "missing"))


def test_devices_below_a_directory_leave_nothing_out() -> None:
    assert devices.devices_below("/dev/null") == [devices.device_at("/dev/null")]
    assert "/dev/ptmx" in {device.path for device in devices.devices_below("/dev")} or Path("/dev/ptmx").is_symlink()
