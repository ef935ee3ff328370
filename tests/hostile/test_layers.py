"""Layers that try to leave their root. Each is refused by name, or lands inside; the world outside never changes."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crid.errors import CridError, InvalidArgumentError
from crid.image.unpack import unpack
from tests.harness.layers import Entry, directory, entry, file, hardlink, layer, symlink

pytestmark = pytest.mark.root

Corpus = dict[str, Callable[[Path], list[Entry]]]
"""Each makes a layer, given the directory outside that it is after."""


def climb(outside: Path) -> str:
    return "../" * 40 + str(outside).lstrip("/")


REFUSED: Corpus = {
    "a path with ..": lambda out: [file("../evil", b"x")],
    "a deep path with ..": lambda out: [file(climb(out) + "/evil", b"x")],
    ".. in the middle": lambda out: [directory("a"), file("a/../../evil", b"x")],
    ".. alone": lambda out: [directory("..")],
    "a directory above": lambda out: [directory("a/../..", mode=0o777)],
    "a link above the root": lambda out: [symlink("l", climb(out)), file("l/evil", b"x")],
    "a link just above the root": lambda out: [symlink("l", ".."), file("l/evil", b"x")],
    "a link down and above": lambda out: [symlink("a/l", "b/../../../x")],
    "a dangling absolute link as a parent": lambda out: [symlink("l", str(out)), file("l/evil", b"x")],
    "links to links": lambda out: [symlink("a", str(out)), symlink("b", "a"), symlink("c", "/b"), file("c/evil", b"x")],
    "a loop of links": lambda out: [symlink("a", "b"), symlink("b", "a"), file("a/evil", b"x")],
    "a link to itself": lambda out: [symlink("a", "a"), file("a/evil", b"x")],
    "a link to nothing": lambda out: [symlink("a", "")],
    "a hard link out by ..": lambda out: [hardlink("h", climb(out) + "/precious")],
    "a hard link out by an absolute path": lambda out: [hardlink("h", str(out / "precious"))],
    "a hard link out through a link": lambda out: [symlink("l", str(out)), hardlink("h", "l/precious")],
    "a hard link to a directory": lambda out: [directory("d"), hardlink("h", "d")],
    "a hard link to the root": lambda out: [hardlink("h", "/")],
    "a hard link to what is not there": lambda out: [hardlink("h", "nothing")],
    "a whiteout of ..": lambda out: [file(".wh...", b"")],
    "a whiteout of .": lambda out: [file(".wh..", b"")],
    "a whiteout of nothing": lambda out: [file(".wh.", b"")],
    "a whiteout above": lambda out: [file("../.wh.precious", b"")],
    "a path through a whiteout": lambda out: [file(".wh.d/evil")],
    "a device that is a whiteout": lambda out: [entry("d", tarfile.CHRTYPE, device=(0, 0))],
    "a file as a parent": lambda out: [file("f"), file("f/evil", b"x")],
    "a device as a parent": lambda out: [entry("n", tarfile.CHRTYPE, device=(1, 3)), file("n/evil", b"x")],
    "the root as a file": lambda out: [entry("/", tarfile.SYMTYPE, link=str(out))],
    "a kind nobody knows": lambda out: [entry("q", b"Z")],
    "a name that is too long": lambda out: [file("n" * 256, b"x")],
    "a path that is too long": lambda out: [file("d/" * 2100 + "f", b"x")],
    "a pax path with ..": lambda out: [entry("ok", pax={"path": climb(out) + "/evil"})],
    "a pax link with ..": lambda out: [entry("ok", tarfile.LNKTYPE, link="x", pax={"linkpath": climb(out) + "/precious"})],
}  # fmt: skip

CONFINED: Corpus = {
    "an absolute path": lambda out: [file(f"{out}/evil", b"x")],
    "a link over an existing file": lambda out: [symlink("f", str(out / "precious")), file("f", b"x")],
    "a file over a link to a file": lambda out: [symlink("f", str(out / "precious")), file("f", b"overwritten", mode=0o777)],
    "a directory over a link": lambda out: [symlink("d", str(out)), directory("d", mode=0o777), file("d/evil", b"x")],
    "a fifo over a link": lambda out: [symlink("f", str(out / "precious")), entry("f", tarfile.FIFOTYPE, mode=0o777)],
    "a hard link to a link": lambda out: [symlink("l", str(out / "precious")), hardlink("h", "l")],
    "a file over a hard link to a link": lambda out: [
        symlink("l", str(out / "precious")), hardlink("h", "l"), file("h", b"x", mode=0o777)
    ],
    "attributes through a link": lambda out: [
        symlink("l", str(out / "precious")), entry("l", tarfile.SYMTYPE, link=str(out), uid=9)
    ],
    "a replaced directory, used again": lambda out: [
        directory("d"), file("d/a"), file("d", b"x"), directory("d"), symlink("d/l", "/"), file("d/l/evil", b"x")
    ],
    "a link to the root": lambda out: [symlink("l", "/"), file(f"l{out}/evil", b"x")],
    "links that swap": lambda out: [
        directory("a"), symlink("l", "a"), file("l/1"), directory("b"), symlink("l", "b"), file("l/2")
    ],
    "overlay attributes": lambda out: [
        entry("d", tarfile.DIRTYPE, mode=0o755, pax={"SCHILY.xattr.trusted.overlay.redirect": str(out)}),
        entry("f", pax={"SCHILY.xattr.trusted.overlay.metacopy": "y"}),
    ],
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A directory with something precious in it, and the layer's target beside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    (tmp_path / "target").mkdir()
    return tmp_path


def everything_but(target: Path, world: Path) -> list[tuple[str, int, int, int, bytes]]:
    """Return what can be told of every file of `world` outside of `target`, and of the directories above."""
    found = []
    for path in sorted(world.rglob("*")):
        if path != target and target not in path.parents:
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found.append((str(path), status.st_mode, status.st_uid, status.st_nlink, content))
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_refused(world: Path, name: str) -> None:
    target = world / "target"
    before = everything_but(target, world)
    with pytest.raises(InvalidArgumentError, match="layer member '"):
        unpack(io.BytesIO(layer(*REFUSED[name](world / "outside"))), target)
    assert everything_but(target, world) == before
    assert not Path("/evil").exists()


@pytest.mark.parametrize("name", CONFINED)
def test_confined(world: Path, name: str) -> None:
    target = world / "target"
    before = everything_but(target, world)
    unpack(io.BytesIO(layer(*CONFINED[name](world / "outside"))), target)
    assert everything_but(target, world) == before
    assert not Path("/evil").exists()
    for path in target.rglob("*"):
        assert not [attribute for attribute in os.listxattr(path, follow_symlinks=False) if "overlay" in attribute]


@pytest.mark.parametrize("cut", [0, 1, 300, 513, 2000])
def test_cut_short(tmp_path: Path, cut: int) -> None:
    """A prefix of a layer is refused, whatever it ends in, unless it is nothing at all."""
    content = layer(directory("d"), file("d/f", b"x" * 1500))
    try:
        unpack(io.BytesIO(content[:cut]), tmp_path, "sha256:" + "0" * 64)
    except CridError:
        return
    raise AssertionError("a layer with another digest was taken")
