"""Sparse files in a tar archive, in the four forms that GNU tar has had. Pure.

A file is a list of segments (offset, length), whose bytes follow each other in the archive, and a size; between them it is
zeros (GNU tar manual, "Storing Sparse Files"). Old GNU has the list in binary in the header (type S) and in blocks behind
it; the pax versions 0.0 and 0.1 have it in records, version 1.0 has it in decimal in front of the content.
"""

from collections.abc import Callable, Iterable, Iterator

from crid.errors import DataLossError

Segments = tuple[tuple[int, int], ...]

_BLOCK = 512
_SEGMENTS_LIMIT = 1 << 17
_OLD_ENTRY = 24
_LINE = 21
"""Bytes of the longest number that is taken, and its end."""
MAP = "GNU.sparse.map"
PAIRS = ("GNU.sparse.offset", "GNU.sparse.numbytes")
"""Version 0.0 repeats these records, one pair a segment; `crid.image.tar` joins them into what 0.1 has as `MAP`."""


def old_segments(header: bytes, number: Callable[[bytes, str], int], take: Callable[[int], bytes]) -> tuple[Segments, int]:
    """Return the segments and the real size of an old GNU member; `take` reads the blocks that go on with the list."""
    found = _old_entries(header[386:482], number)
    extended = header[482]
    while extended:
        block = take(_BLOCK)
        found += _old_entries(block[:504], number)
        extended = block[504]
        if len(found) > _SEGMENTS_LIMIT:
            raise DataLossError("tar: too many segments of a sparse file")
    return tuple(found), number(header[483:495], "real size")


def _old_entries(raw: bytes, number: Callable[[bytes, str], int]) -> list[tuple[int, int]]:
    entries = [raw[start : start + _OLD_ENTRY] for start in range(0, len(raw), _OLD_ENTRY)]
    return [(number(entry[:12], "offset"), number(entry[12:], "length")) for entry in entries if entry[12:].strip(b"\0 ")]


def listed_segments(text: bytes) -> Segments:
    """Return the segments of version 0.1's record: offsets and lengths between commas. Raises DataLossError."""
    numbers = _decimals(text.split(b",") if text else [])
    return _pairs(numbers)


def leading_segments(take: Callable[[int], bytes]) -> tuple[Segments, int]:
    """Return the segments that version 1.0 has in front of the content, one number a line, and how many bytes that took."""
    text = take(_BLOCK)
    count = _decimals([text.partition(b"\n")[0]])[0]
    if count > _SEGMENTS_LIMIT:
        raise DataLossError("tar: too many segments of a sparse file")
    lines = text.count(b"\n")
    pieces, size = [text], len(text)
    while lines < 1 + 2 * count:
        if size > _LINE * (1 + 2 * count):
            raise DataLossError("tar: malformed map of a sparse file")
        pieces.append(take(_BLOCK))
        lines += pieces[-1].count(b"\n")
        size += _BLOCK
    return _pairs(_decimals(b"".join(pieces).split(b"\n")[1 : 1 + 2 * count])), size


def check(segments: Segments, real_size: int, stored: int) -> None:
    """Refuse segments that overlap, go backwards or beyond the end, or are not as long as what is stored for them."""
    end = total = 0
    for offset, length in segments:
        if offset < end or length < 0:
            raise DataLossError("tar: segments of a sparse file overlap")
        end, total = offset + length, total + length
    if end > real_size or total != stored:
        raise DataLossError("tar: segments of a sparse file do not fit its size")


def placed(pieces: Iterable[memoryview], segments: Segments) -> Iterator[tuple[int, memoryview]]:
    """Yield the stored bytes `pieces` with the offset at which each belongs."""
    places = iter(segments)
    offset = left = 0
    for piece in pieces:
        while piece:
            while not left:
                offset, left = next(places)
            part = piece[:left]
            yield offset, part
            offset, left, piece = offset + len(part), left - len(part), piece[len(part) :]


def _decimals(words: Iterable[bytes]) -> list[int]:
    words = list(words)
    if not all(word.isdigit() and len(word) < 20 for word in words):
        raise DataLossError("tar: malformed map of a sparse file")
    return [int(word) for word in words]


def _pairs(numbers: list[int]) -> Segments:
    if len(numbers) % 2:
        raise DataLossError("tar: malformed map of a sparse file")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
