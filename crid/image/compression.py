"""A layer's bytes without their compression, hashed on the way.

The compression is told by the content's first bytes, not by the media type, which is wrong often enough in the field
that other runtimes look at the content too.
"""

import zlib
from typing import IO, Protocol, cast

import zstandard
from isal import igzip, igzip_lib

from crid.errors import DataLossError
from crid.image.tar import ByteSource
from crid.model.digest import digest_so_far, new_hash

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + low, 0x2A, 0x4D, 0x18]) for low in range(16))
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}
_WINDOW = 1 << 27
"""The largest zstd window that is taken: zstd's own limit without `--long`, in bytes of memory."""
_MAGIC = 6


class Hashed:
    """Reads from a source and keeps the hash of what was read, by the algorithm of the digest that was `promised`."""

    def __init__(self, source: ByteSource, promised: str = "") -> None:
        self._source = source
        self._hash = new_hash(promised)
        self.size = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> str:
        """The digest of what was read so far."""
        return digest_so_far(self._hash)


class _Pushed:
    """A source some of whose bytes were looked at already."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        return self._source.read(size)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of `buffer`; return how many bytes, 0 at the end."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Translated:
    """Turns the decompressors' exceptions into DataLossError."""

    def __init__(self, source: ByteSource, kind: str) -> None:
        self._source = source
        self._kind = kind

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except (EOFError, igzip.BadGzipFile, zlib.error, igzip_lib.IsalError, zstandard.ZstdError) as error:  # type: ignore[misc]  # isal has no stubs
            raise DataLossError(f"damaged {self._kind} stream: {error}") from error


class _Read1(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _Once:
    """`read` as one step of decompression: a buffered reader's own `read` would wait for all the bytes."""

    def __init__(self, source: _Read1) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        return self._source.read1(size)


def decompressed(source: ByteSource) -> ByteSource:
    """Return the content of `source`: gzip (any number of members), zstd (any number of frames) or as it is.

    Raises DataLossError for another compression, and from `read` for a damaged stream.
    """
    head = b""
    while len(head) < _MAGIC and (more := source.read(_MAGIC - len(head))):
        head += more
    whole = _Pushed(head, source)
    if head.startswith(_GZIP):
        unzipped: _Read1 = igzip.IGzipFile(fileobj=whole, mode="rb")  # type: ignore[no-untyped-call]  # isal has no stubs
        return _Translated(_Once(unzipped), "gzip")
    if head.startswith((_ZSTD, *_ZSTD_SKIPPABLE)):
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        frames = decompressor.stream_reader(cast(IO[bytes], whole), read_size=1 << 17, read_across_frames=True)
        return _Translated(frames, "zstd")
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            raise DataLossError(f"a layer compressed with {kind}, which image layers do not use")
    return whole
