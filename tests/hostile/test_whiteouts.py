"""Whiteouts in odd places, as a container sees them: layers pulled, and mounted by the kernel's overlayfs."""

from pathlib import Path

import pytest

from crid.linux import mount
from crid.store.verify import verify
from tests.harness.image_bench import Bench
from tests.harness.layers import Entry, directory, file, hardlink, image, layer, symlink

pytestmark = pytest.mark.root

ALL = ["a", "d", "d/e", "d/e/z", "d/x", "d/y", "l"]
BASE = [
    directory("d"),
    file("d/x", b"1"),
    file("d/y", b"1"),
    directory("d/e"),
    file("d/e/z"),
    file("a", b"1"),
    symlink("l", "d"),
]

CASES: dict[str, tuple[list[Entry], list[str]]] = {
    "a file": ([file("d/.wh.x")], ["a", "d", "d/e", "d/e/z", "d/y", "l"]),
    "a directory": ([file(".wh.d")], ["a", "l"]),
    "what is not there": ([file("d/.wh.nothing"), file("new/.wh.x")], [*ALL, "new"]),
    "a link, not what it leads to": ([file(".wh.l")], ["a", "d", "d/e", "d/e/z", "d/x", "d/y"]),
    "the parent, after a child": ([file("d/new"), file(".wh.d")], ["a", "d", "d/new", "l"]),
    "the parent, before a child": ([file(".wh.d"), file("d/new")], ["a", "d", "d/new", "l"]),
    "the parent, as a new directory": ([file(".wh.d"), directory("d")], ["a", "d", "l"]),
    "an opaque directory": ([directory("d"), file("d/.wh..wh..opq"), file("d/new")], ["a", "d", "d/new", "l"]),
    "an opaque directory, said last": ([file("d/new"), file("d/.wh..wh..opq")], ["a", "d", "d/new", "l"]),
    "an opaque directory that nobody described": ([file("d/e/.wh..wh..opq")], ["a", "d", "d/e", "d/x", "d/y", "l"]),
    "an opaque root": ([file(".wh..wh..opq"), file("new"), file("d/only")], ["d", "d/only", "new"]),
    "an opaque root and nothing else": ([file(".wh..wh..opq")], []),
    "a file and its whiteout": ([file("a", b"2"), file(".wh.a")], ALL),
    "a whiteout and a hard link of its name": ([file("n"), file(".wh.a"), hardlink("a", "n")], [*ALL, "n"]),
    "aufs' bookkeeping": ([file(".wh..wh.aufs"), directory(".wh..wh.orph"), file(".wh..wh.plnk/5.1")], ALL),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_what_a_container_sees(bench: Bench, name: str) -> None:
    members, wanted = CASES[name]
    found = await bench.service.pull(bench.registry.add("a", image([layer(*BASE), layer(*members)])))
    snapshot = bench.service.prepare_rootfs("c1", found)
    mount.perform(snapshot.mount)
    try:
        root = Path(snapshot.mount.target)
        # Overlayfs lists a whiteout that has nothing to hide, but lets nobody find it.
        seen = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.exists())
        (root / "written").touch()
    finally:
        mount.unmount(snapshot.mount.target)
    assert seen == wanted
    assert verify(bench.root) == []
