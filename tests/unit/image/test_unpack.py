"""What an honest layer becomes; hostile ones are in tests/hostile."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from crid.errors import DataLossError
from crid.image.unpack import Unpacked, unpack
from tests.harness.layers import END, Entry, compressed, digest_of, directory, entry, file, hardlink, header, layer, symlink
from tests.harness.tools import open_descriptors

pytestmark = pytest.mark.root

OPAQUE = "trusted.overlay.opaque"


def unpacked(tmp_path: Path, *entries: Entry) -> tuple[Path, Unpacked]:
    target = tmp_path / "layer"
    target.mkdir()
    return target, unpack(io.BytesIO(layer(*entries)), target)


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_every_kind_of_file(tmp_path: Path, compression: str) -> None:
    target = tmp_path / "layer"
    target.mkdir()
    content = layer(
        directory("./", mode=0o711),
        entry("d", tarfile.DIRTYPE, mode=0o1777, uid=3, gid=4, mtime=1_000_000_000),
        entry("d/setuid", content=b"x" * 300_000, mode=0o6755, uid=1, gid=2, mtime=1_100_000_000),
        hardlink("hard", "d/setuid"),
        symlink("link", "/etc/passwd"),
        entry("null", tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
        entry("disk", tarfile.BLKTYPE, mode=0o660, device=(8, 1), gid=6),
        entry("fifo", tarfile.FIFOTYPE, mode=0o622),
        entry("attributes", pax={"SCHILY.xattr.user.colour": "blue", "SCHILY.xattr.security.selinux": "x"}),
    )
    result = unpack(io.BytesIO(compressed(content, compression)), target, digest_of(content))
    assert result.diff_id == digest_of(content)
    assert result.implied == {}
    assert stat.S_IMODE(target.stat().st_mode) == 0o711
    status = (target / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o1777, 3, 4, 1_000_000_000)
    status = (target / "d/setuid").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o6755, 1, 2, 1_100_000_000)
    assert (target / "d/setuid").read_bytes() == b"x" * 300_000
    assert (target / "hard").samefile(target / "d/setuid")
    assert (target / "link").readlink() == Path("/etc/passwd")
    status = (target / "null").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert (status.st_rdev, stat.S_IMODE(status.st_mode)) == (os.makedev(1, 3), 0o666)
    status = (target / "disk").lstat()
    assert stat.S_ISBLK(status.st_mode)
    assert (status.st_rdev, status.st_gid) == (os.makedev(8, 1), 6)
    assert stat.S_ISFIFO((target / "fifo").lstat().st_mode)
    assert os.listxattr(target / "attributes") == ["user.colour"]
    assert result.inodes == 7
    assert result.size >= 300_000


def test_capabilities_survive_the_change_of_owner(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep, version 2
    pax = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    target, _ = unpacked(tmp_path, entry("ping", uid=5, mode=0o755, pax=pax))
    assert os.getxattr(target / "ping", "security.capability")[4:8] == capability[4:8]


def test_whiteouts(tmp_path: Path) -> None:
    target, _ = unpacked(
        tmp_path, directory("d"), file("d/.wh.gone"), file("d/.wh..wh..opq"), file(".wh.top"), file(".wh..wh.plnk")
    )
    assert is_whiteout(target / "d/gone")
    assert is_whiteout(target / "top")
    assert os.getxattr(target / "d", OPAQUE) == b"y"
    assert sorted(path.name for path in target.iterdir()) == ["d", "top"]


def test_what_aufs_kept_for_itself_is_left_out(tmp_path: Path) -> None:
    target, result = unpacked(tmp_path, file(".wh..wh.aufs"), directory(".wh..wh.orph"), file(".wh..wh.plnk/5.1"))
    assert (list(target.iterdir()), result.inodes) == ([], 0)


def test_a_whiteout_and_a_new_file_of_the_same_name(tmp_path: Path) -> None:
    target, _ = unpacked(
        tmp_path,
        file(".wh.before"), directory("before"), file("before/x"),
        directory("after"), file(".wh.after"),
        file("plain", b"1"), file(".wh.plain"),
        file(".wh.deep"), file("deep/x"),
    )  # fmt: skip
    for name in ("before", "after", "deep"):
        assert os.getxattr(target / name, OPAQUE) == b"y", name
    assert (target / "plain").read_bytes() == b"1"
    assert (target / "before/x").exists()


def test_later_members_replace_earlier_ones(tmp_path: Path) -> None:
    target, _ = unpacked(
        tmp_path,
        file("a", b"1"), hardlink("b", "a"), file("a", b"2"),
        directory("d"), file("d/x"), directory("d"), file("d/y"),
        directory("e"), file("e/x"), symlink("e", "d"), file("e/z"),
    )  # fmt: skip
    assert (target / "a").read_bytes() == b"2"
    assert (target / "b").read_bytes() == b"1"
    assert sorted(path.name for path in (target / "d").iterdir()) == ["x", "y", "z"]
    assert (target / "e").is_symlink()


def test_what_was_replaced_is_not_counted(tmp_path: Path) -> None:
    target, result = unpacked(
        tmp_path,
        directory("d"), file("d/x", b"1" * 9000), hardlink("kept", "d/x"), file("d/y"), file("d", b"2"),
        file("a", b"1"), file("a", b"2"), file(".wh.w"), file("w/x"),
    )  # fmt: skip
    assert result.inodes == 5
    assert sorted(path.name for path in target.rglob("*")) == ["a", "d", "kept", "w", "x"]


def test_a_path_through_a_link_lands_inside(tmp_path: Path) -> None:
    target, _ = unpacked(tmp_path, directory("run"), symlink("var/run", "/run"), file("var/run/x", b"1"))
    assert (target / "run/x").read_bytes() == b"1"


def test_directories_that_nobody_described(tmp_path: Path) -> None:
    target, result = unpacked(tmp_path, file("a/b/c"), directory("x/y"), directory("x"))
    assert list(result.implied) == [".", "a", "a/b"]
    assert (target / "a/b/c").is_file()


def test_more_directories_than_descriptors(tmp_path: Path) -> None:
    names = [f"d{number}/e/f" for number in range(200)]
    target, _ = unpacked(tmp_path, *(file(name) for name in names), *(file(name + "2") for name in names))
    assert all((target / f"{name}2").is_file() for name in names)


def test_odd_names(tmp_path: Path) -> None:
    names = [b"\xff\xfe", "ü ".encode(), b"new\nline", b"-rf", b"n" * 255, b"..."]
    target, _ = unpacked(tmp_path, *(file(os.fsdecode(name)) for name in names))
    assert sorted(os.fsencode(path.name) for path in target.iterdir()) == sorted(names)
    unpack(io.BytesIO(header(b"\xff\xfe-in-a-header") + END), target)
    assert (target / os.fsdecode(b"\xff\xfe-in-a-header")).exists()


def test_another_digest_than_promised(tmp_path: Path) -> None:
    with pytest.raises(DataLossError, match="digest"):
        unpack(io.BytesIO(layer(file("a"))), tmp_path, "sha256:" + "0" * 64)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = open_descriptors()
    unpacked(tmp_path, *(file(f"d{number}/x") for number in range(100)), hardlink("h", "d1/x"))
    assert open_descriptors() == before
