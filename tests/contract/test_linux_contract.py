"""What every Kernel does: the real one, on real mounts and namespaces, and the fake."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.linux.fake import FakeKernel
from crid.linux.kernel import Kernel, Linux
from crid.linux.mount import unmount_all_below
from crid.model.idmap import IdMap, IdRange
from crid.model.mount import Mount

USERNS = Path(__file__).parents[2] / "conmon" / "crid-userns"
MAP = IdMap.of(IdRange(100_000, 65_536), IdRange(200_000, 65_536))


@pytest.fixture(params=[pytest.param(Linux, marks=pytest.mark.root), FakeKernel])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    yield request.param()
    unmount_all_below(str(tmp_path))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def tmpfs(target: Path) -> Mount:
    return Mount(str(target), "shm", "tmpfs", ("nosuid", "nodev", "mode=1777", "size=64k"))


def test_mount_and_unmount(kernel: Kernel, target: Path) -> None:
    assert not kernel.is_mount_point(str(target))
    kernel.perform(tmpfs(target))
    assert kernel.is_mount_point(str(target))
    kernel.unmount(str(target))
    assert not kernel.is_mount_point(str(target))


def test_a_file_can_be_bound(kernel: Kernel, tmp_path: Path) -> None:
    source, file = tmp_path / "source", tmp_path / "file"
    source.touch()
    file.touch()
    kernel.perform(Mount(str(file), str(source), "bind", ("bind", "ro")))
    assert kernel.is_mount_point(str(file))
    kernel.unmount(str(file))


def test_mounting_on_nothing_fails(kernel: Kernel, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mount.*missing"):
        kernel.perform(tmpfs(tmp_path / "missing"))
    assert kernel.mounts_below(str(tmp_path)) == []


def test_unmounting_what_is_not_mounted_fails(kernel: Kernel, target: Path) -> None:
    with pytest.raises(OSError, match="umount2") as caught:
        kernel.unmount(str(target))
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(FileNotFoundError, match="umount2"):
        kernel.unmount(str(target / "missing"))


def test_mounts_below_and_all_of_them_away(kernel: Kernel, tmp_path: Path, target: Path) -> None:
    other, beside = target / "other", tmp_path / "target-beside"
    other.mkdir()
    beside.mkdir()
    kernel.perform(Mount(str(target), str(target), "bind", ("rbind", "rprivate")))
    kernel.perform(tmpfs(other))
    kernel.perform(tmpfs(other))
    kernel.perform(tmpfs(beside))
    assert kernel.mounts_below(str(target)) == [str(target), str(other), str(other)]
    kernel.unmount_all_below(str(target))
    assert kernel.mounts_below(str(tmp_path)) == [str(beside)]
    kernel.unmount_all_below(str(target))
    kernel.unmount_all_below(str(tmp_path))


def test_pinned_namespaces(kernel: Kernel, tmp_path: Path) -> None:
    pinned = kernel.pin_namespaces(
        tmp_path, ("net", "uts"), hostname="pod", sysctls={"net.ipv4.ip_forward": "1", "net/ipv4/ip_default_ttl": "65"}
    )
    assert pinned == {"net": str(tmp_path / "net"), "uts": str(tmp_path / "uts")}
    assert all(kernel.is_mount_point(path) for path in pinned.values())
    assert kernel.in_network_namespaces([pinned["net"]] * 2, lambda: "inside") == ["inside"] * 2
    for path in pinned.values():
        kernel.unpin(path)
        kernel.unpin(path)
    assert list(tmp_path.iterdir()) == []
    assert kernel.mounts_below(str(tmp_path)) == []


def test_pinning_that_fails_leaves_nothing(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "uts").write_text("somebody else's")
    with pytest.raises(FileExistsError):
        kernel.pin_namespaces(tmp_path, ("net", "ipc", "uts"))
    assert [path.name for path in tmp_path.iterdir()] == ["uts"]
    assert (tmp_path / "uts").read_text() == "somebody else's"
    assert kernel.mounts_below(str(tmp_path)) == []


@pytest.mark.parametrize("kinds", [("mnt",), ("net", "user")])
def test_kinds_that_cannot_be_pinned(kernel: Kernel, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="can be pinned"):
        kernel.pin_namespaces(tmp_path, kinds)
    with pytest.raises(ValueError, match="UTS"):
        kernel.pin_namespaces(tmp_path, ("net",), hostname="pod")
    with pytest.raises(ValueError, match="sysctl"):
        kernel.pin_namespaces(tmp_path, ("net",), sysctls={"net/../x": "1"})
    assert list(tmp_path.iterdir()) == []


def test_pinned_user_namespace(kernel: Kernel, tmp_path: Path) -> None:
    pinned = kernel.pin_user_namespace(
        USERNS, tmp_path, ("net", "ipc", "uts"), MAP, hostname="pod", sysctls={"kernel.shm_rmid_forced": "1"}
    )
    assert pinned == {kind: str(tmp_path / kind) for kind in ("user", "net", "ipc", "uts")}
    assert all(kernel.is_mount_point(path) for path in pinned.values())
    for path in pinned.values():
        kernel.unpin(path)
    assert list(tmp_path.iterdir()) == []


def test_a_user_namespace_that_fails_leaves_nothing(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "uts").write_text("somebody else's")
    with pytest.raises(FileExistsError):
        kernel.pin_user_namespace(USERNS, tmp_path, ("net", "uts"), MAP)
    with pytest.raises(ValueError, match="can be pinned"):
        kernel.pin_user_namespace(USERNS, tmp_path, ("user",), MAP)
    with pytest.raises(ValueError, match="sysctl"):
        kernel.pin_user_namespace(USERNS, tmp_path, ("net",), MAP, sysctls={"net/../x": "1"})
    assert [path.name for path in tmp_path.iterdir()] == ["uts"]
    assert kernel.mounts_below(str(tmp_path)) == []


def test_a_mount_with_mapped_owners(kernel: Kernel, tmp_path: Path, target: Path) -> None:
    source, pins = tmp_path / "source", tmp_path / "ns"
    source.mkdir()
    pins.mkdir()
    user = kernel.pin_user_namespace(USERNS, pins, (), MAP)["user"]
    kernel.mount_idmapped(str(source), str(target), user)
    assert kernel.is_mount_point(str(target))
    kernel.unmount(str(target))
    for words in (
        (tmp_path / "missing", target, user),
        (source, tmp_path / "missing", user),
        (source, target, tmp_path / "none"),
    ):
        with pytest.raises(FileNotFoundError, match=r"missing|none"):
            kernel.mount_idmapped(*map(str, words))
    kernel.unpin(user)
    assert kernel.mounts_below(str(tmp_path)) == []


def test_a_namespace_that_is_gone_cannot_be_entered(kernel: Kernel, tmp_path: Path) -> None:
    """That is told in its place; the others are entered."""
    pinned = kernel.pin_namespaces(tmp_path, ("net",))
    with contextlib.ExitStack() as stack:
        stack.callback(kernel.unpin, pinned["net"])
        before, gone, after = kernel.in_network_namespaces(
            [pinned["net"], str(tmp_path / "gone"), pinned["net"]], lambda: "inside"
        )
        assert (before, after) == ("inside", "inside")
        assert isinstance(gone, FileNotFoundError)


def test_what_the_action_raises_comes_through(kernel: Kernel, tmp_path: Path) -> None:
    pinned = kernel.pin_namespaces(tmp_path, ("net",))
    with contextlib.ExitStack() as stack:
        stack.callback(kernel.unpin, pinned["net"])
        with pytest.raises(ZeroDivisionError):
            kernel.in_network_namespaces([pinned["net"]], lambda: 1 // 0)
