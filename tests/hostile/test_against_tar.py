"""The same archive unpacked by crid and by GNU tar: the same tree, for trees and forms that tar takes too."""

import io
import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

from crid.image.unpack import unpack
from crid.linux.disk import disk_usage
from tests.harness.layers import Entry, directory, entry, file, hardlink, layer, symlink
from tests.harness.tools import require_tool

pytestmark = pytest.mark.root

FORMATS = ["v7", "oldgnu", "gnu", "ustar", "posix"]
SPARSE = ["--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]


def described(top: Path, *, fine_times: bool, directories: bool = True) -> dict[str, tuple[object, ...]]:
    """Return everything that can be told of the tree `top`, by path. The first name of a file stands for its inode."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        status = path.lstat()
        first = inodes.setdefault(status.st_ino, name)
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            content = status.st_rdev
        attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        mtime = status.st_mtime_ns if fine_times else status.st_mtime_ns // 1_000_000_000
        mtime = mtime if directories or not stat.S_ISDIR(status.st_mode) else 0
        found[name] = (status.st_mode, status.st_uid, status.st_gid, mtime, content, first, attributes)
    return found


def random_tree(top: Path, chance: random.Random, *, names: int, long: bool, special: bool, attributes: bool) -> None:
    """Make a tree of all kinds of files with odd names, owners, modes and times."""
    top.mkdir()
    places: list[Path] = [top]
    files: list[Path] = []
    alphabet = ["a", "ü", "\udcff\udcfe", " ", "\n", "-rf", "'\"", "\\", "%s", "..."]
    for number in range(names):
        name = f"{number}" + "".join(chance.choices(alphabet, k=chance.randint(0, 4)))
        if long and chance.random() < 0.2:
            name += "n" * chance.randint(80, 200)
        path = chance.choice(places) / name
        kind = chance.random() * (1 if special else 0.85)
        if kind < 0.25:
            path.mkdir()
            places.append(path)
        elif kind < 0.6 or not files:
            _random_file(path, chance)
            files.append(path)
        elif kind < 0.75:
            path.symlink_to(os.path.relpath(chance.choice(places), path.parent))
        elif kind <= 0.85:
            path.hardlink_to(chance.choice(files))
            continue
        elif kind < 0.92:
            os.mkfifo(path)
        else:
            os.mknod(path, stat.S_IFCHR, os.makedev(1, 1 + number))
        os.chown(path, chance.choice([0, 7, 65534]), chance.choice([0, 8, 2_000_000]), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(chance.choice([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0]))
            if attributes and chance.random() < 0.3 and path.is_file():
                os.setxattr(path, "user.ü", chance.randbytes(30))
    for path in [*files, *places]:
        when = chance.randint(1, 2_000_000_000) * 1_000_000_000 + chance.randint(0, 999_999_999)
        os.utime(path, ns=(when, when))


def _random_file(path: Path, chance: random.Random) -> None:
    with path.open("wb") as handle:
        for _ in range(chance.randint(0, 4)):
            handle.seek(chance.choice([0, 0, 200_000]), os.SEEK_CUR)
            handle.write(chance.randbytes(chance.choice([1, 511, 512, 513, 70_000])))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("form", FORMATS)
def test_what_tar_writes(tmp_path: Path, form: str, seed: int) -> None:
    chance = random.Random(f"{form} {seed}")
    posix = form == "posix"
    random_tree(
        tmp_path / "tree", chance, names=80, long=form in ("gnu", "oldgnu", "posix"), special=form != "v7", attributes=posix
    )
    options = [f"--format={form}", "--sparse", *([chance.choice(SPARSE), "--xattrs"] if posix else [])]
    options = [option for option in options if option != "--sparse" or form not in ("v7", "ustar")]
    archive = tmp_path / "archive"
    argv = [str(require_tool("tar")), "-C", str(tmp_path / "tree"), *options, "-cf", str(archive), "."]
    subprocess.run(argv, check=True)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    result = unpack(io.BytesIO(archive.read_bytes()), tmp_path / "ours")
    flags = ["-p", "--numeric-owner", *(["--xattrs", "--xattrs-include=*"] if posix else [])]
    subprocess.run([require_tool("tar"), "-C", str(tmp_path / "theirs"), *flags, "-xf", str(archive)], check=True)
    assert described(tmp_path / "ours", fine_times=posix) == described(tmp_path / "theirs", fine_times=posix)
    assert result.implied == {}
    assert result.inodes == disk_usage(str(tmp_path / "ours")).inodes - 1


REPLACED: dict[str, list[Entry]] = {
    "a file twice": [file("a", b"1"), file("a", b"22")],
    "a file over a link to a file": [file("a", b"1"), symlink("l", "a"), file("l", b"2")],
    "a link over a file": [file("a", b"1"), symlink("a", "b")],
    "a directory twice": [directory("d"), file("d/x"), directory("d", mode=0o700)],
    "a file over an empty directory": [directory("d"), file("d", b"x")],
    "a directory over a file": [file("d", b"x"), directory("d"), file("d/y")],
    "a hard link, then its target anew": [file("a", b"1"), hardlink("h", "a"), file("a", b"2")],
    "a hard link over a file": [file("a", b"1"), file("h", b"2"), hardlink("h", "a")],
    "through a link inside": [directory("d"), symlink("l", "d"), file("l/x", b"1")],
    "directories out of order": [file("d/e/f"), directory("d/e", mode=0o711), directory("d", mode=0o755)],
    "names with dots": [directory("./d"), file("././d//x", b"1"), file("d/./y")],
    "an old directory": [entry("d/", mode=0o755), file("d/x")],
    "times before 1970": [entry("f", mtime=-5), entry("g", pax={"mtime": "-1.5"})],
}  # fmt: skip


@pytest.mark.parametrize("name", REPLACED)
def test_members_that_meet(tmp_path: Path, name: str) -> None:
    content = layer(*REPLACED[name])
    for place in ("ours", "theirs"):
        (tmp_path / place).mkdir()
    unpack(io.BytesIO(content), tmp_path / "ours")
    flags = ["-p", "--numeric-owner", "--overwrite-dir", "-xf", "-"]
    subprocess.run([require_tool("tar"), "-C", str(tmp_path / "theirs"), *flags], input=content, check=True)
    # tar loses the time of a directory that it comes back to.
    ours, theirs = (described(tmp_path / place, fine_times=True, directories=False) for place in ("ours", "theirs"))
    assert ours == theirs
