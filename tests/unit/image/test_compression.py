import bz2
import gzip
import io
import lzma

import pytest
import zstandard

from crid.errors import DataLossError
from crid.image.compression import Hashed, decompressed
from tests.harness.layers import digest_of

PLAIN = bytes(range(256)) * 5000


def read_all(content: bytes) -> bytes:
    source = decompressed(io.BytesIO(content))
    return b"".join(iter(lambda: source.read(1 << 16), b""))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        gzip.compress(PLAIN),
        gzip.compress(PLAIN[:77]) + gzip.compress(b"") + gzip.compress(PLAIN[77:]),
        gzip.compress(PLAIN) + bytes(512),
        zstandard.compress(PLAIN),
        zstandard.compress(PLAIN[:99]) + zstandard.compress(PLAIN[99:]),
    ],
    ids=["plain", "gzip", "members", "padded", "zstd", "frames"],
)
def test_kinds(content: bytes) -> None:
    assert read_all(content) == PLAIN


def test_nothing_and_little() -> None:
    assert read_all(b"") == b""
    assert read_all(b"ab") == b"ab"


CHECKED = zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN)


@pytest.mark.parametrize("content", [gzip.compress(PLAIN), CHECKED], ids=["gzip", "zstd"])
def test_damage(content: bytes) -> None:
    middle = len(content) // 2
    with pytest.raises(DataLossError, match="damaged"):
        read_all(content[:middle] + bytes(9) + content[middle + 9 :])


def test_a_truncated_gzip() -> None:
    with pytest.raises(DataLossError, match="damaged gzip"):
        read_all(gzip.compress(PLAIN)[:-9])


@pytest.mark.parametrize(("content", "kind"), [(bz2.compress(PLAIN), "bzip2"), (lzma.compress(PLAIN), "xz")])
def test_other_compressions_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(DataLossError, match=kind):
        decompressed(io.BytesIO(content))


def test_a_window_beyond_the_limit() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(DataLossError, match="damaged zstd"):
        read_all(compressor.compress(PLAIN) + compressor.flush())


def test_the_hash_is_of_what_was_read() -> None:
    hashed = Hashed(io.BytesIO(PLAIN))
    while hashed.read(1000):
        pass
    assert (hashed.digest, hashed.size) == (digest_of(PLAIN), len(PLAIN))
