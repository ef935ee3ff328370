"""Real mounts, below the test's own directory."""

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.linux import mount, mountinfo, newmount
from crid.model.mount import Mount

pytestmark = pytest.mark.root

READ_ONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of its own: the machine's /tmp may be an overlay, which cannot carry an overlay's upper directory."""
    room = tmp_path / "room"
    room.mkdir()
    mount.perform(Mount(str(room), "test", "tmpfs", ("private",)))
    yield room
    mount.unmount_all_below(str(tmp_path))
    assert mount.mounts_below(str(tmp_path)) == []


def directory(path: Path) -> str:
    path.mkdir(parents=True)
    return str(path)


def flags(path: str) -> int:
    return os.statvfs(path).f_flag & 15


def layers(room: Path, count: int, name: str = "layer-{}-" + "x" * 60) -> list[str]:
    paths = []
    for number in range(count):
        path = room / name.format(number)
        directory(path)
        (path / str(number)).touch()
        (path / "same").write_text(str(number))
        paths.append(str(path))
    return paths


def overlay(room: Path, lower: list[str], *options: str) -> Mount:
    parts = {name: directory(room / name) for name in ("upper", "work", "merged")}
    words = (f"lowerdir={':'.join(lower)}", f"upperdir={parts['upper']}", f"workdir={parts['work']}", *options)
    return Mount(parts["merged"], "overlay", "overlay", words)


def test_flags_of_a_bind_mount_leave_the_source_alone(room: Path) -> None:
    source, target = directory(room / "source"), directory(room / "target")
    mount.perform(Mount(target, source, "bind", ("rbind", "ro", "nosuid", "nodev", "noexec", "rprivate")))
    assert flags(target) == READ_ONLY | NOSUID | NODEV | NOEXEC
    assert flags(source) == 0
    with pytest.raises(OSError, match="Read-only"):
        Path(target, "x").touch()


def test_a_bind_mount_keeps_the_flags_of_what_it_shows(room: Path) -> None:
    source, target = directory(room / "source"), directory(room / "target")
    mount.perform(Mount(source, "inner", "tmpfs", ("nosuid", "nodev")))
    mount.perform(Mount(target, source, "bind", ("ro", "dev")))
    assert flags(target) == READ_ONLY | NOSUID


def test_an_existing_bind_mount_is_remounted(room: Path) -> None:
    target = directory(room / "target")
    mount.perform(Mount(target, target, "bind"))
    mount.perform(Mount(target, "", "bind", ("remount", "ro")))
    assert flags(target) == READ_ONLY
    assert mount.mounts_below(target) == [target]


@pytest.mark.parametrize(("option", "field"), [("shared", b" shared:"), ("private", b""), ("unbindable", b" unbindable ")])
def test_propagation(room: Path, option: str, field: bytes) -> None:
    target = directory(room / "target")
    mount.perform(Mount(target, "x", "tmpfs", (option,)))
    with open("/proc/self/mountinfo", "rb") as file:
        (line,) = [line for line in file if f" {target} ".encode() in line]
    optional = line.partition(b" - ")[0]
    assert field in optional + b" "
    assert (b"shared:" in optional) == (option == "shared")


def test_a_mount_whose_second_call_fails_is_taken_away(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = directory(room / "target")
    real = mount.mount

    def failing(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
        if flags & mount.MS_REMOUNT:
            raise OSError(errno.EPERM, "mount: not this time", target)
        real(source, target, kind, flags, data)

    monkeypatch.setattr(mount, "mount", failing)
    with pytest.raises(PermissionError, match="not this time"):
        mount.perform(Mount(target, target, "bind", ("ro",)))
    assert mount.mounts_below(target) == []


def test_strange_names(room: Path) -> None:
    target = directory(room / "a b\tc\\d\né")
    mount.perform(Mount(target, "x", "tmpfs"))
    assert mount.is_mount_point(target)
    assert mount.mounts_below(target) == [target]


def test_options_that_the_file_system_does_not_know(room: Path) -> None:
    target = directory(room / "target")
    with pytest.raises(OSError, match=r"mount: Invalid argument.*target"):
        mount.perform(Mount(target, "x", "tmpfs", ("no-such-option=1",)))
    assert not mount.is_mount_point(target)


def test_a_short_overlay(room: Path) -> None:
    plan = overlay(room, layers(room, 3), "nodev")
    mount.perform(plan)
    assert sorted(path.name for path in Path(plan.target).iterdir()) == ["0", "1", "2", "same"]
    assert Path(plan.target, "same").read_text() == "0"


@pytest.mark.parametrize("count", [60, 200])
def test_an_overlay_with_more_layers_than_a_page_can_name(room: Path, count: int) -> None:
    plan = overlay(room, layers(room, count), "nodev", "nosuid")
    assert len(",".join(plan.options)) > 4096
    mount.perform(plan)
    merged = Path(plan.target)
    assert sum(1 for _ in merged.iterdir()) == count + 1
    assert (merged / "same").read_text() == "0", "the first layer is the topmost"
    (merged / "new").touch()
    assert (room / "upper" / "new").exists()
    assert flags(plan.target) == NODEV | NOSUID


def test_the_same_on_a_kernel_without_the_newer_calls(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(number: int, name: str, *arguments: object, path: str | None = None) -> int:
        raise OSError(errno.ENOSYS, name, path)

    monkeypatch.setattr(newmount, "system_call", absent)
    gc.collect()  # nobody else closes a file meanwhile
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    plan = overlay(room, layers(room, 150), "ro")
    mount.perform(plan)
    assert sum(1 for _ in Path(plan.target).iterdir()) == 151
    assert Path(plan.target, "same").read_text() == "0"
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_layers_whose_paths_are_too_long_for_fsconfig(room: Path) -> None:
    plan = overlay(room, layers(room, 30, name="{}-" + "x" * 240))
    mount.perform(plan)
    assert sum(1 for _ in Path(plan.target).iterdir()) == 31


def test_layers_with_colons_and_commas(room: Path) -> None:
    lower = layers(room, 70, name="{}:with,both-" + "x" * 60)
    escaped = [path.replace(":", r"\:").replace(",", r"\,") for path in lower]
    plan = overlay(room, escaped)
    mount.perform(plan)
    assert sum(1 for _ in Path(plan.target).iterdir()) == 71


def test_a_missing_layer_is_named_and_nothing_is_mounted(room: Path) -> None:
    plan = overlay(room, [*layers(room, 60), str(room / "missing")])
    with pytest.raises(FileNotFoundError, match="room/missing"):
        mount.perform(plan)
    assert not mount.is_mount_point(plan.target)


def test_unmounting_goes_on_after_a_failure(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [directory(room / "set" / name) for name in ("one", "two", "three")]
    for target in targets:
        mount.perform(Mount(target, "x", "tmpfs"))
    real = mount.unmount

    def failing(target: str, flags: int = mount.MNT_DETACH) -> None:
        if target.endswith("two"):
            raise OSError(errno.EBUSY, "umount2: in use", target)
        real(target, flags)

    with monkeypatch.context() as patch:
        patch.setattr(mount, "unmount", failing)
        with pytest.raises(OSError, match=r"in use.*two"):
            mount.unmount_all_below(str(room / "set"))
    assert [entry.target for entry in mountinfo.read() if entry.target.startswith(str(room / "set"))] == [targets[1]]
