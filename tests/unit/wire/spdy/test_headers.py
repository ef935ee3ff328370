import tracemalloc
import zlib

import pytest

from crid.wire.protocol import RemoteProtocolError
from crid.wire.spdy.headers import DICTIONARY, HeaderCompressor, HeaderDecompressor

LIMIT = 16 * 1024


def raw_block(plain: bytes) -> bytes:
    deflate = zlib.compressobj(level=9, zdict=DICTIONARY)
    return deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


def text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def test_dictionary_is_the_one_of_the_draft() -> None:
    # The id that zlib writes into every stream which uses it; a client's first block carries it.
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_blocks_are_one_compressed_stream() -> None:
    compressor, decompressor = HeaderCompressor(), HeaderDecompressor(LIMIT, 1)
    for headers in ({"streamType": "stdin"}, {}, {"streamType": "stdin", "port": "80"}):
        lowered = {name.lower(): value for name, value in headers.items()}
        assert decompressor.decompress(compressor.compress(headers)) == lowered


@pytest.mark.parametrize(
    ("plain", "fault"),
    [
        (b"", "cut short within a length"),
        (b"\0\0\0\1", "cut short within a length"),
        (b"\0\0\0\1" + b"\xff\xff\xff\xffab", "cut short: 4294967295 bytes"),
        (b"\xff\xff\xff\xff", "cut short within a length"),
        (b"\0\0\0\1" + text(b"") + text(b"x"), "has the name"),
        (b"\0\0\0\1" + text(b"Port") + text(b"x"), "has the name"),
        (b"\0\0\0\2" + (text(b"a") + text(b"1")) * 2, "twice"),
        (b"\0\0\0\0more", "4 bytes behind"),
    ],
)
def test_a_malformed_block_is_the_peers_fault(plain: bytes, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault) as raised:
        HeaderDecompressor(LIMIT, 7).decompress(raw_block(plain))
    assert raised.value.code == 7


def test_what_is_not_compressed_or_ends_the_stream() -> None:
    with pytest.raises(RemoteProtocolError, match="not compressed"):
        HeaderDecompressor(LIMIT, 1).decompress(b"not zlib")
    ended = zlib.compressobj(zdict=DICTIONARY)
    with pytest.raises(RemoteProtocolError, match="ends the compressed stream"):
        HeaderDecompressor(LIMIT, 1).decompress(ended.compress(b"\0\0\0\0") + ended.flush())


def test_a_block_that_inflates_without_bound_is_stopped_at_the_limit() -> None:
    bomb = raw_block(b"\0\0\0\1" + text(b"a") + text(b"x" * 50_000_000))
    assert len(bomb) < 64 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="more than 16384 bytes"):
            HeaderDecompressor(LIMIT, 1).decompress(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()
