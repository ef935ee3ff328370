"""SPDY/3 header blocks: names and values, compressed with one zlib stream per direction and a fixed dictionary.

The compressed stream lives as long as the connection, so blocks must be decoded in the order received, even those of
streams that are refused. A few bytes can inflate to gigabytes; inflating stops at a limit.
Rules: SPDY protocol draft 3, section 2.6.10.
"""

import zlib
from collections.abc import Mapping
from struct import Struct

from crid.wire.protocol import RemoteProtocolError

# fmt: off
_WORDS = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection",
    "content-base", "content-encoding", "content-language", "content-length", "content-location", "content-md5",
    "content-range", "content-type", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location",
    "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after",
    "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie",
    "keep-alive", "origin",
)
# fmt: on
_CODES = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
)
_FRAGMENTS = (
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)

_LENGTH = Struct("!I")


def _with_length(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text


DICTIONARY = b"".join(_with_length(word.encode()) for word in _WORDS) + (_CODES + _FRAGMENTS).encode()


class HeaderCompressor:
    """The sending side of a connection's header stream."""

    def __init__(self) -> None:
        # A window of 2 KiB covers the dictionary, and blocks are small: more memory per connection would be wasted.
        self._deflate = zlib.compressobj(wbits=11, memLevel=4, zdict=DICTIONARY)

    def compress(self, headers: Mapping[str, str]) -> bytes:
        """The block for these headers; names are lowered. It must be sent before the next one is made."""
        parts = [_LENGTH.pack(len(headers))]
        for name, value in headers.items():
            parts.append(_with_length(name.lower().encode("latin-1")))
            parts.append(_with_length(value.encode("latin-1")))
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecompressor:
    """The receiving side. `max_bytes` bounds one block after inflating; after an error it must not be used again."""

    def __init__(self, max_bytes: int, error_code: int) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._max_bytes = max_bytes
        self._error_code = error_code

    def decompress(self, block: bytes) -> dict[str, str]:
        """The headers of one block, names in lower case; several values of one name are joined by NUL, as on the wire.

        Raises RemoteProtocolError if it is no such block, inflates beyond the bound, or names a header twice.
        """
        try:
            plain = self._inflate.decompress(block, self._max_bytes + 1)
        except zlib.error as error:
            raise self._broken(f"is not compressed as it should be: {error}") from error
        if len(plain) > self._max_bytes:
            raise self._broken(f"inflates to more than {self._max_bytes} bytes")
        if self._inflate.eof:
            raise self._broken("ends the compressed stream of its connection")
        return self._parse(plain)

    def _parse(self, plain: bytes) -> dict[str, str]:
        headers: dict[str, str] = {}
        count, at = self._length(plain, 0)
        for _ in range(count):
            name, at = self._text(plain, at)
            value, at = self._text(plain, at)
            if not name or name != name.lower():
                raise self._broken(f"has the name {name[:80]!r}")
            if name in headers:
                raise self._broken(f"names {name[:80]!r} twice")
            headers[name] = value
        if at != len(plain):
            raise self._broken(f"has {len(plain) - at} bytes behind its last header")
        return headers

    def _text(self, plain: bytes, at: int) -> tuple[str, int]:
        length, start = self._length(plain, at)
        end = start + length
        if end > len(plain):
            raise self._broken(f"is cut short: {length} bytes are announced, {len(plain) - start} are there")
        return plain[start:end].decode("latin-1"), end

    def _length(self, plain: bytes, at: int) -> tuple[int, int]:
        if at + 4 > len(plain):
            raise self._broken("is cut short within a length")
        (length,) = _LENGTH.unpack_from(plain, at)
        return length, at + 4

    def _broken(self, how: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"a SPDY header block {how}", self._error_code)
