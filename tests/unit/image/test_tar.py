import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import CridError, DataLossError
from crid.image.tar import Member, TarReader
from tests.harness.layers import Entry, directory, entry, file, hardlink, layer, symlink

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


class Dribble:
    """A source that gives few bytes at a time."""

    def __init__(self, content: bytes, step: int) -> None:
        self._file = io.BytesIO(content)
        self._step = step

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._step))


def members(content: bytes, step: int = 1 << 18) -> list[tuple[Member, bytes]]:
    reader = TarReader(Dribble(content, step))
    return [(member, b"".join(reader.content())) for member in reader]


def sample() -> list[Entry]:
    return [
        directory("d/"),
        file("d/file", b"x" * 1000, mode=0o4755, uid=7, gid=8),
        symlink("d/link", "../" * 40 + "t" * 120),
        hardlink("hard", "d/file"),
        entry("p/" + "n" * 250, content=b"long", mtime=1234567890),
        entry("dev", tarfile.CHRTYPE, device=(5, 1)),
        entry("fifo", tarfile.FIFOTYPE),
        entry("big-owner", uid=5_000_000, gid=4_000_000_000),
    ]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 1 << 18])
def test_reads_what_tarfile_writes(form: int, step: int) -> None:
    written = sample()
    found = members(layer(*written, form=form), step)
    assert len(found) == len(written)
    for (member, content), (info, wanted) in zip(found, written, strict=True):
        assert content == wanted
        assert (member.name.rstrip("/"), member.kind) == (info.name.rstrip("/"), info.type.decode())
        assert (member.mode, member.uid, member.gid, member.link) == (info.mode, info.uid, info.gid, info.linkname)
        assert member.mtime_ns == int(info.mtime) * 1_000_000_000
        if info.type == tarfile.CHRTYPE:
            assert (member.major, member.minor) == (5, 1)


@given(name=NAMES, content=st.binary(max_size=2000), form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_any_name_and_content(name: str, content: bytes, form: int) -> None:
    written = name.rstrip("/") or "x"
    (member, found), (last, _) = members(layer(file(written, content), file("next"), form=form))
    assert (member.name, found, last.name) == (written, content, "next")


@given(st.binary(max_size=3000))
def test_any_bytes_are_refused_or_read(content: bytes) -> None:
    with contextlib.suppress(CridError):
        members(content)


@given(st.integers(0, 3), st.integers(0, 511), st.integers(0, 255))
def test_a_damaged_header_is_refused_or_read(block: int, offset: int, value: int) -> None:
    content = bytearray(layer(*sample()))
    content[block * 512 + offset] = value
    with contextlib.suppress(CridError):
        members(bytes(content))


def test_pax_attributes_and_times() -> None:
    pax = {"SCHILY.xattr.user.colour": "blue", "mtime": "-1.25"}
    ((member, _),) = members(layer(entry("f", pax=pax)))
    assert member.xattrs == {"user.colour": b"blue"}
    assert member.mtime_ns == -1_250_000_000


def test_content_that_nobody_reads_is_skipped() -> None:
    reader = TarReader(io.BytesIO(layer(file("a", b"1" * 5000), file("b", b"2"))))
    assert [member.name for member in reader] == ["a", "b"]


def test_an_archive_without_end_blocks() -> None:
    assert [member.name for member, _ in members(layer(file("a", b"1"))[:1024])] == ["a"]


@pytest.mark.parametrize("cut", [100, 512, 700])
def test_an_archive_that_ends_early(cut: int) -> None:
    with pytest.raises(DataLossError, match="ends in the middle"):
        members(layer(file("a", b"1" * 600))[:cut])


def test_a_wrong_checksum() -> None:
    content = bytearray(layer(file("a")))
    content[0] ^= 1
    with pytest.raises(DataLossError, match="checksum"):
        members(bytes(content))


@pytest.mark.parametrize("record", [b"5 a=b", b"99 a=b\n", b"0 a=b\n", b"x a=b\n", b"6 abcd\n", b"11 size=ab\n"])
def test_malformed_pax_headers(record: bytes) -> None:
    with pytest.raises(DataLossError, match="pax"):
        members(layer(entry("h", tarfile.XHDTYPE, record), file("a")))


def test_a_huge_extended_header_is_not_read_into_memory() -> None:
    header = bytearray(layer(entry("h", b"L", b"x"))[:512])
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(DataLossError, match="extended header"):
        members(bytes(header) + bytes(1024))


def test_a_name_with_a_zero_byte() -> None:
    record = b"path=a\0b\n"
    record = b"%d " % (len(record) + 3) + record
    with pytest.raises(DataLossError, match="zero byte"):
        members(layer(entry("h", tarfile.XHDTYPE, record), file("a")))
