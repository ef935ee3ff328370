"""Archives whose form is wrong, or right and extreme: each is refused by a named error or read, in bounded memory."""

import contextlib
import gzip
import io
import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crid.config import ImageConfig
from crid.errors import CridError, DataLossError, InvalidArgumentError
from crid.image.limits import LayerLimits
from crid.image.unpack import unpack
from crid.linux.disk import disk_usage
from crid.linux.remove import remove_tree
from tests.harness.layers import END, Entry, digest_of, directory, file, hardlink, header, layer, padded, pax_header, symlink

pytestmark = pytest.mark.root

GNU = b"ustar  \0"


def base256(value: int, size: int) -> bytes:
    return (value + (1 << 8 * size if value < 0 else 0) | 0x80 << 8 * (size - 1)).to_bytes(size, "big")


MALFORMED: dict[str, bytes] = {
    "no archive": b"#!/bin/sh\n" * 200,
    "a checksum that is wrong": header()[:148] + b"0000000\0" + header()[156:],
    "a member cut short": header(size=5000) + bytes(512),
    "a header cut short": header() + header()[:100],
    "an extended header and nothing": pax_header(("path", b"x")),
    "an extended header before the end": pax_header(("path", b"x")) + END,
    "a long name before the end": header(kind=b"L", size=3) + padded(b"abc") + END,
    "a number that is none": header(uid=b"12x4567") + END,
    "a number with a sign": header(mtime=b"-0000000001") + END,
    "a number with a prefix": header(uid=b"0o17") + END,
    "a size that wraps": pax_header(("size", b"18446744073709551617")) + header() + END,
    "a size below zero": pax_header(("size", b"-1")) + header() + END,
    "a size with an underscore": pax_header(("size", b"1_0")) + header(size=10) + padded(bytes(10)) + END,
    "an owner below zero": pax_header(("uid", b"-1")) + header() + END,
    "an owner that changes nothing": pax_header(("uid", b"4294967295")) + header() + END,
    "an owner beyond the kernel's": pax_header(("gid", b"4294967296")) + header() + END,
    "an owner in base 256, below zero": header(uid=base256(-2, 8)) + END,
    "a time that is none": pax_header(("mtime", b"yesterday")) + header() + END,
    "a time with an exponent": pax_header(("mtime", b"1e9")) + header() + END,
    "a record without an end": header(b"pax", b"x", 5) + padded(b"5 a=b") + header() + END,
    "a record longer than the header": header(b"pax", b"x", 7) + padded(b"99 a=b\n") + header() + END,
    "an extended header beyond all sense": header(b"pax", b"x", 1 << 30) + bytes(4096),
    "a name with a zero byte": pax_header(("path", b"a\0b")) + header() + END,
    "extended headers without end": pax_header(("comment", b"x")) * 1000 + header() + END,
    "long names without end": (header(kind=b"L", size=1) + padded(b"x")) * 1000 + header() + END,
    "sparse segments that overlap": header(
        b"f", b"S", 1024, magic=GNU, sparse=b"%011o\0%011o\0" % (0, 512) + b"%011o\0%011o\0" % (256, 512), real=b"%011o" % 9999
    ) + bytes(1024) + END,
    "sparse segments beyond the file": header(
        b"f", b"S", 512, magic=GNU, sparse=b"%011o\0%011o\0" % (1 << 20, 512), real=b"%011o" % 99
    ) + bytes(512) + END,
    "a sparse map without a line's end": pax_header(
        ("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"f"), ("GNU.sparse.realsize", b"9")
    ) + header(size=1 << 24) + b"1\n" + b"1" * (1 << 24),
    "a sparse map of billions": pax_header(
        ("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"f"), ("GNU.sparse.realsize", b"9")
    ) + header(size=512) + padded(b"9999999999\n") + END,
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path: Path, name: str) -> None:
    with pytest.raises((DataLossError, InvalidArgumentError), match=r"tar|layer member"):
        unpack(io.BytesIO(MALFORMED[name]), tmp_path, "")


REFUSED: dict[str, bytes] = {
    "a device beyond the kernel's": header(kind=b"3", major=base256(1 << 40, 8), minor=b"0000001") + END,
    "an attribute's name with a zero byte": pax_header(("SCHILY.xattr.user.a\0b", b"1")) + header() + END,
    "an attribute of a megabyte": pax_header(("SCHILY.xattr.user.a", b"1" * 1_000_000)) + header() + END,
    "a multi-volume member": header(kind=b"M") + END,
    "a volume label": header(kind=b"V") + END,
    "a hard link to what a whiteout hides": layer(file(".wh.x"), hardlink("y", "x")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="layer member '"):
        unpack(io.BytesIO(REFUSED[name]), tmp_path, "")


def test_times_that_no_file_has_become_the_nearest(tmp_path: Path) -> None:
    content = pax_header(("mtime", b"9" * 19)) + header(b"late") + header(b"early", mtime=base256(-(1 << 80), 12)) + END
    unpack(io.BytesIO(content), tmp_path)
    assert (tmp_path / "early").stat().st_mtime < 0 < 1 << 31 < (tmp_path / "late").stat().st_mtime


def test_what_follows_the_archives_end_is_hashed_and_not_read_as_members(tmp_path: Path) -> None:
    content = layer(file("a")) + b"garbage" * 1000 + layer(file("b"))
    result = unpack(io.BytesIO(content), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert result.diff_id == digest_of(content)


@pytest.mark.parametrize("packed", [gzip.compress(layer(file("a"))), zstandard.compress(layer(file("a")))])
def test_garbage_behind_a_compressed_layer(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(DataLossError, match="damaged"):
        unpack(io.BytesIO(packed + b"garbage, not another member"), tmp_path)


class Made:
    """An archive made while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int) -> bytes:
        return next(self._pieces, b"")


@contextlib.contextmanager
def bounded_memory(limit: int) -> Iterator[None]:
    """Fail if the block allocates more than `limit` bytes at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


def test_memory_does_not_grow_with_global_records(tmp_path: Path) -> None:
    name = "SCHILY.xattr.trusted.{}"  # of a kind that no file is given, so that none is refused for its length
    pieces = (pax_header((name.format(number), bytes(1 << 19)), kind=b"g") + header() for number in range(1 << 10))
    with bounded_memory(16 << 20), pytest.raises(DataLossError, match="too many global records"):
        unpack(Made(pieces), tmp_path)


def test_memory_does_not_grow_with_members(tmp_path: Path) -> None:
    """Neither directories, nor their times, nor files are remembered."""
    pieces = (header(b"%d" % number, b"5") + header(b"%d/f" % number) for number in range(2000))
    with bounded_memory(1 << 20):
        result = unpack(Made(pieces), tmp_path)
    assert result.inodes == 4000


def test_memory_does_not_grow_with_directories_that_nobody_described(tmp_path: Path) -> None:
    pieces = (pax_header(("path", b"%d/" % number + b"d" * 200 + b"/f")) + header() for number in range(1 << 20))
    with bounded_memory(4 << 20), pytest.MonkeyPatch.context() as patch:
        patch.setattr("crid.image.directories._IMPLIED_LIMIT", 1 << 18)
        with pytest.raises(InvalidArgumentError, match="too many directories without an entry"):
            unpack(Made(pieces), tmp_path)


@pytest.mark.parametrize("name", ["a sparse map without a line's end", "an extended header beyond all sense"])
def test_memory_does_not_grow_with_what_is_malformed(tmp_path: Path, name: str) -> None:
    with bounded_memory(8 << 20), pytest.raises(CridError):
        unpack(io.BytesIO(MALFORMED[name]), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        MALFORMED["a sparse map of billions"],
        header(b"f", b"S", magic=GNU, extended=b"\1") + (b"%011o\0%011o\0" % (0, 0) * 21 + b"\1").ljust(512, b"\0") * 7000,
    ],
)
def test_more_segments_than_anybody_needs(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataLossError, match="too many segments"):
        unpack(io.BytesIO(content), tmp_path, "")


def test_directories_that_nobody_described_count_as_entries(tmp_path: Path) -> None:
    """One member may make as many directories as its path has parts."""
    content = layer(*(file(f"{number}/" + "d/" * 100 + "f") for number in range(20)))
    with pytest.raises(InvalidArgumentError, match="more than 1000 entries"):
        unpack(io.BytesIO(content), tmp_path, "", LayerLimits(entries=1000))
    assert disk_usage(str(tmp_path)).inodes <= 1001


def test_a_path_as_deep_as_a_path_can_be(tmp_path: Path) -> None:
    deepest = "d/" * 2040 + "f"
    result = unpack(io.BytesIO(layer(file(deepest, b"x"), symlink("l", "d/" * 2040), file("l/g"))), tmp_path)
    assert result.inodes == disk_usage(str(tmp_path)).inodes - 1 == 2043
    remove_tree(tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["l"]


def test_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    """Links lead below the deepest path: such a tree can be made, so it must be possible to count and remove it."""
    target = tmp_path / "layer"
    target.mkdir()
    unpack(io.BytesIO(layer(file("dir/" * 1000 + "f"), symlink("l", "dir/" * 1000), file("l/" + "dir/" * 500 + "g"))), target)
    assert disk_usage(str(target)).inodes == 1504
    remove_tree(target)
    assert list(tmp_path.iterdir()) == []


def test_no_more_descriptors_than_a_few(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 80, limits[1])
    )
    try:
        unpack(io.BytesIO(layer(*(file(f"{number}/" + "d/" * 300 + "f") for number in range(3)))), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


NAMES = st.sampled_from(["a", "b", "a/b", "a/b/c", "b/a", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", "./", "l", "l/x", "../a", "/b"])


@st.composite
def archives(draw: st.DrawFn) -> list[Entry]:
    """Members that get in each other's way: few names, every kind."""
    made: list[Entry] = []
    for name in draw(st.lists(NAMES, max_size=12)):
        target = draw(st.sampled_from(["a", "b", "/", "..", "a/b", "l", "../../outside", "/outside"]))
        kinds = [file(name, b"x" * draw(st.integers(0, 600))), directory(name), symlink(name, target), hardlink(name, target)]
        made.append(draw(st.sampled_from(kinds)))
    return made


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(archives())
def test_members_in_each_others_way(tmp_path: Path, entries: list[Entry]) -> None:
    """Refused by name or unpacked, never out of the root, and counted as they are on the disk."""
    world = tmp_path / "world"
    world.mkdir()
    try:
        (world / "outside").mkdir()
        (world / "target").mkdir()
        (world / "outside/precious").write_bytes(b"1")
        before = (world / "outside").stat(), (world / "outside/precious").stat()
        refusal, result = "", None
        try:
            result = unpack(io.BytesIO(layer(*entries)), world / "target")
        except CridError as error:
            refusal = str(error)
        assert result is not None or refusal.startswith("layer member '")
        assert result is None or result.inodes == disk_usage(str(world / "target")).inodes - 1
        after = (world / "outside").stat(), (world / "outside/precious").stat()
        assert [(status.st_mtime_ns, status.st_nlink) for status in before] == [
            (status.st_mtime_ns, status.st_nlink) for status in after
        ]
        assert sorted(path.name for path in world.iterdir()) == ["outside", "target"]
    finally:
        remove_tree(world)


class Repeated(io.RawIOBase):
    """An archive of so many members, a thousand directories over and over, which is made as it is read."""

    def __init__(self, members: int) -> None:
        self._block = b"".join(header(b"d%d" % number, b"5") for number in range(1000))
        self._rest = io.BytesIO(END)
        self._position, self._end = 0, members * 512

    def read(self, size: int = -1) -> bytes:
        if self._position == self._end:
            return self._rest.read(size)
        start = self._position % len(self._block)
        data = self._block[start : min(start + size, start + self._end - self._position)]
        self._position += len(data)
        return data


def test_a_million_members_and_one_more(tmp_path: Path) -> None:
    """As many as the default allows are read, in the memory that a thousand take; the next one is refused."""
    most = ImageConfig().layer_entries_limit
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidArgumentError, match="more than 1000000 entries"):
        unpack(Repeated(most + 1), tmp_path, "", LayerLimits(entries=most))
    assert len(list(tmp_path.iterdir())) == 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
