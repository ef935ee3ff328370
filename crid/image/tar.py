"""A tar archive read forwards, once, without copying the files' content.

Formats: ustar and pax (POSIX.1-2017, pax(1)), and GNU's long names, base-256 numbers and sparse files (crid.image.sparse), as
GNU tar, BSD tar and Go's archive/tar write them. `tarfile` of the standard library reads the same at some ten times the cost
per member, which an image of ten thousand files feels.

Nothing here touches the file system, and nothing is judged but the archive's own form: a member's name is what the
archive says, be it "../../etc/passwd". Names are str with surrogate escapes, as os.fsdecode makes them.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from crid.errors import DataLossError
from crid.image import sparse
from crid.image.sparse import Segments

BLOCK = 512
_ZEROS = bytes(BLOCK)
_HEADER_LIMIT = 1 << 20
"""Bytes of one pax header or long name: a hundred times what a path and its attributes need."""
_HEADERS_LIMIT = 64
"""Extended headers in front of one member; writers need one or two of each kind."""
_XATTR = "SCHILY.xattr."
_USED = ("path", "linkpath", "size", "uid", "gid", "mtime", _XATTR, "GNU.sparse.")
_OWNER_LIMIT = (1 << 32) - 1
"""chown(2) takes this for "no change"."""
_TIME_LIMIT = (1 << 63) - 1
"""Nanoseconds: the years 1677 to 2262. Times beyond are taken for the nearest of these."""


_OCTAL = re.compile(rb"[0-7]*")
_TIME = re.compile(r"-?[0-9]{0,19}(\.[0-9]*)?")


class ByteSource(Protocol):
    """Something to read from: at most `size` bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class Member:
    """One entry. `kind` is ustar's type flag: "0" file, "1" hard link, "2" symbolic link, "3" and "4" devices, "5"
    directory, "6" FIFO."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    segments: Segments | None = None
    """Where a sparse file's content belongs; `size` is then the file's own."""


class TarReader:
    """Iterate over the members; read a member's content before asking for the next one, or it is skipped."""

    def __init__(self, source: ByteSource, chunk: int = 1 << 18) -> None:
        self._source = source
        self._chunk = chunk
        self._buffer = memoryview(b"")
        self._left = 0  # bytes of the current member's content
        self._padding = 0
        self._global: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            yield member

    def content(self) -> Iterator[memoryview]:
        """Yield the rest of the current member's content in pieces. Raises DataLossError if the archive ends first."""
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read to the end of the source, so that what it verifies at its end is verified."""
        self._buffer = memoryview(b"")
        while self._source.read(self._chunk):
            pass

    def _next(self) -> Member | None:
        pax = self._global
        long_name = long_link = None
        described = False
        for _ in range(_HEADERS_LIMIT):
            header = self._header()
            if header is None:
                if described:
                    raise DataLossError("tar: the archive ends behind an extended header")
                return None
            kind = chr(header[156])
            size = _number(header[124:136], "size")
            if kind in "xg":
                records = _records(self._take(self._small(size)))
                pax = {**self._global, **records}
                if kind == "g":
                    self._global = pax
                    if sum(map(len, pax)) + sum(map(len, pax.values())) > _HEADER_LIMIT:
                        raise DataLossError("tar: too many global records")
            elif kind == "L":
                long_name = _string(self._take(self._small(size)))
            elif kind == "K":
                long_link = _string(self._take(self._small(size)))
            else:
                return self._member(header, kind, size, pax, long_name, long_link)
            described = kind != "g"
            self._skip()
        raise DataLossError(f"tar: more than {_HEADERS_LIMIT} extended headers for one member")

    def _member(
        self,
        header: bytes,
        kind: str,
        size: int,
        pax: dict[str, bytes],
        long_name: str | None,
        long_link: str | None,
    ) -> Member:
        name = _string(header[0:100])
        if header[257:263] == b"ustar\0" and header[345]:
            name = f"{_string(header[345:500])}/{name}"
        name = long_name if long_name is not None else name
        link = long_link if long_link is not None else _string(header[157:257])
        member = Member(
            name,
            "0" if kind in "\0007" else kind,
            _number(header[100:108], "mode") & 0o7777,
            _number(header[108:116], "uid"),
            _number(header[116:124], "gid"),
            size,
            _number(header[136:148], "mtime") * 1_000_000_000,
            link,
        )
        if kind in "34":
            member.major, member.minor = _number(header[329:337], "devmajor"), _number(header[337:345], "devminor")
        if pax:
            _apply(member, pax)
        if not (0 <= member.uid < _OWNER_LIMIT and 0 <= member.gid < _OWNER_LIMIT):
            raise DataLossError(f"tar member {member.name[:300]!r}: owner {member.uid}:{member.gid}")
        member.mtime_ns = max(-_TIME_LIMIT, min(_TIME_LIMIT, member.mtime_ns))
        if member.kind in "123456":
            # Such members have no content, whatever size they claim, but for directories' and links' in old archives.
            member.size = 0
        if not 0 <= member.size < 1 << 62:
            raise DataLossError(f"tar member {member.name[:300]!r}: size {member.size}")
        stored = member.size
        if member.kind == "0" and member.name.endswith("/"):
            member.kind = "5"  # as old tars wrote a directory
        if member.kind == "S":
            member.kind = "0"
            member.segments, member.size = sparse.old_segments(header, _number, self._take)
        self._left, self._padding = stored, -stored % BLOCK
        if member.kind == "0" and any(key.startswith("GNU.sparse.") for key in pax):
            self._sparse(member, pax)
        if member.segments is not None:
            sparse.check(member.segments, member.size, self._left)
        return member

    def _sparse(self, member: Member, pax: dict[str, bytes]) -> None:
        """Take name, size and segments of a sparse file from its pax records. Raises DataLossError."""
        if name := pax.get("GNU.sparse.name"):
            member.name = os.fsdecode(name)
        size = pax.get("GNU.sparse.realsize") or pax.get("GNU.sparse.size") or b""
        if not size.isdigit() or len(size) > 19 or "\0" in member.name:
            raise DataLossError(f"tar member {member.name[:300]!r}: a sparse file without its size")
        member.size = int(size)
        if pax.get("GNU.sparse.major") == b"1":
            member.segments, taken = sparse.leading_segments(self._take)
            self._left -= taken
            if self._left < 0:
                raise DataLossError(f"tar member {member.name[:300]!r}: is longer than it says")
        else:
            member.segments = sparse.listed_segments(pax.get(sparse.MAP, b""))

    def _header(self) -> bytes | None:
        """Return the next header block, None at the end: two zero blocks, or nothing more."""
        self._skip()
        if not self._buffer and not self._fill():
            return None
        block = self._take(BLOCK)
        if block == _ZEROS:
            return None
        expected = _number(block[148:156], "checksum")
        plain = sum(block) - sum(block[148:156]) + 8 * 0x20
        if plain != expected:
            raise DataLossError("tar: a header's checksum does not match")
        return block

    def _skip(self) -> None:
        left = self._left + self._padding
        self._left = self._padding = 0
        while left:
            left -= len(self._some(left))

    def _small(self, size: int) -> int:
        if not 0 <= size <= _HEADER_LIMIT:
            raise DataLossError(f"tar: an extended header of {size} bytes")
        self._padding = -size % BLOCK
        return size

    def _take(self, size: int) -> bytes:
        pieces: list[memoryview] = []
        while size:
            piece = self._some(size)
            size -= len(piece)
            pieces.append(piece)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _some(self, most: int) -> memoryview:
        """Return between 1 and `most` bytes. Raises DataLossError at the end."""
        if not self._buffer and not self._fill():
            raise DataLossError("tar: the archive ends in the middle of a member")
        piece = self._buffer[:most]
        self._buffer = self._buffer[most:]
        return piece

    def _fill(self) -> bool:
        self._buffer = memoryview(self._source.read(self._chunk))
        return bool(self._buffer)


def _string(raw: bytes) -> str:
    return os.fsdecode(raw.partition(b"\0")[0])


def _number(raw: bytes, what: str) -> int:
    """Return a number in octal, or in GNU's base 256 (top bit set, big-endian two's complement)."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") - (0x80 << 8 * (len(raw) - 1))
        return value - (1 << 8 * len(raw) - 1) if raw[0] & 0x40 else value
    text = raw.partition(b"\0")[0].strip(b" ")
    if not _OCTAL.fullmatch(text):
        raise DataLossError(f"tar: {what} {bytes(raw)!r} is not a number")
    return int(text or b"0", 8)


def _records(raw: bytes) -> dict[str, bytes]:
    """Return a pax header's records, each being `LENGTH KEY=VALUE` and a newline, with the length of all of it."""
    records: dict[str, bytes] = {}
    pairs: list[bytes] = []
    position = 0
    while position < len(raw):
        digits, blank, _ = raw[position : position + 20].partition(b" ")
        if not blank or not digits.isdigit():
            raise DataLossError("tar: malformed pax header")
        end = position + int(digits)
        key, equals, value = raw[position + len(digits) + 1 : end - 1].partition(b"=")
        if end > len(raw) or end <= position or raw[end - 1 : end] != b"\n" or not equals:
            raise DataLossError("tar: malformed pax header")
        name = os.fsdecode(key)
        if name in sparse.PAIRS:  # the one record that may be repeated
            pairs.append(value)
        if name.startswith(_USED):
            records[name] = value
        position = end
    if pairs:
        records[sparse.MAP] = b",".join(pairs)
    return records


def _apply(member: Member, pax: dict[str, bytes]) -> None:
    """Let the pax records override what the ustar header says."""
    try:
        for key, value in pax.items():
            if key == "path":
                member.name = os.fsdecode(value)
            elif key == "linkpath":
                member.link = os.fsdecode(value)
            elif key in ("size", "uid", "gid"):
                setattr(member, key, _decimal(value))
            elif key == "mtime":
                member.mtime_ns = _nanoseconds(value.decode("ascii"))
            elif key.startswith(_XATTR):
                member.xattrs[key.removeprefix(_XATTR)] = value
    except ValueError as error:
        raise DataLossError(f"tar: malformed pax record {key!r}") from error
    if "\0" in member.name or "\0" in member.link:
        raise DataLossError(f"tar member {member.name[:300]!r}: a name with a zero byte")


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ValueError("not a number")
    return int(text)


def _nanoseconds(text: str) -> int:
    """Return `SECONDS[.FRACTION]` in nanoseconds, exactly."""
    if not _TIME.fullmatch(text):
        raise ValueError("not a time")
    whole, _, fraction = text.partition(".")
    nanoseconds = int((fraction + "000000000")[:9])
    seconds = int(whole if whole.strip("-") else "0") * 1_000_000_000
    return seconds - nanoseconds if text.startswith("-") else seconds + nanoseconds
