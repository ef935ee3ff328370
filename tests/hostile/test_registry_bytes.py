"""A registry that speaks HTTP badly, slowly, or not at all: the pull ends with an error that names it, and leaves nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from crid.errors import CridError
from crid.store.verify import verify
from tests.harness.image_bench import IMPATIENT, Bench
from tests.harness.layers import file, image, layer
from tests.harness.raw_registry import raw_registry

pytestmark = pytest.mark.root

MADE = image([layer(file("f", b"x" * 100_000))], compression="")
BLOB = MADE.blobs[MADE.layers[0]]
OK = b"HTTP/1.1 200 OK\r\n"


def whole(body: bytes, *headers: bytes) -> bytes:
    return OK + b"".join(header + b"\r\n" for header in (b"Content-Length: %d" % len(body), *headers)) + b"\r\n" + body


class Dripping:
    """Bytes that come one after the other, for ever, each before a silence would be noticed, and too slowly to come to the end
    of what may be sent at all."""

    def __init__(self, head: bytes, drop: bytes) -> None:
        self.head, self.drop = head, drop


Reply = bytes | Dripping

MANIFESTS: dict[str, Reply] = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS's alert": b"\x15\x03\x03\x00\x02\x02\x16",
    "a status that is none": b"HTTP/1.1 OK\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a length that is none": OK + b"Content-Length: much\r\n\r\n{}",
    "a length below zero": OK + b"Content-Length: -5\r\n\r\n{}",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "a length beyond the body": OK + b"Content-Length: 999\r\n\r\n{}",
    "a chunk's size that is none": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a chunk's size beyond all sense": OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    "chunks without end": Dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a chunk's extension without end": Dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n2;", b"x"),
    "a head without end": Dripping(OK, b"X-More: y\r\n"),
    "a header line without end": Dripping(OK + b"X-Long: ", b"y"),
    "a hundred headers of kilobytes": OK + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 4000) for n in range(100)) + b"\r\n{}",
    "a body by drops": Dripping(OK + b"Content-Length: 100000\r\n\r\n", b"{"),
    "an error by drops": Dripping(b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n", b"{"),
    "silence": Dripping(b"", b""),
    "a redirect to no address": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "a redirect to a port that is none": b"HTTP/1.1 302 Found\r\nLocation: http://x:99999/\r\nContent-Length: 0\r\n\r\n",
    "a redirect with odd bytes": b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\x01\r\nContent-Length: 0\r\n\r\n",
    "an early hint and no more": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "an error of brackets": b"HTTP/1.1 500 No\r\nContent-Length: 16000\r\n\r\n" + b"[" * 16_000,
    "an error with a terminal's commands": b"HTTP/1.1 400 \x1b[2J\r\nContent-Length: 0\r\n\r\n",
    "a compressed manifest": whole(b"\x1f\x8b\x08\x00", b"Content-Encoding: gzip"),
    "nothing, by chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "part of a manifest": b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\nContent-Range: bytes 0-1/9\r\n\r\n{}",
}

BLOBS: dict[str, Reply] = {
    "nothing": b"",
    "silence": Dripping(b"", b""),
    "a head without end": Dripping(OK, b"X-More: y\r\n"),
    "a header line without end": Dripping(OK + b"X-Long: ", b"y"),
    "half": whole(BLOB)[: len(BLOB) // 2],
    "a length that is shorter": whole(BLOB[:50_000]),
    "without a length, cut": OK + b"\r\n" + BLOB[:50_000],
    "chunks that break off": OK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + BLOB[:60_000],
    "drops": Dripping(OK + b"Content-Length: %d\r\n\r\n" % len(BLOB), b"x"),
    "a chunk's extension without end": Dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n2;", b"x"),
    "more than was promised": whole(BLOB + b"x"),
    "without end": Dripping(OK + b"\r\n" + BLOB, b"x" * 100_000),
    "compressed": whole(BLOB, b"Content-Encoding: gzip") + b"x",
    "another range": b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 7-11/12\r\n\r\nhello",
}


async def sent(reply: Reply) -> AsyncIterator[bytes]:
    if isinstance(reply, bytes):
        yield reply
        return
    yield reply.head
    while True:
        await asyncio.sleep(0.05)
        yield reply.drop


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = replace(IMPATIENT, attempts=2, resumptions=3, read=0.3, progress=0.3, answer=0.5, document=0.5)
    monkeypatch.setattr("crid.image.registry_client.Patience", lambda progress: patience)


async def refused(bench: Bench, serve: Callable[[str], AsyncIterator[bytes]]) -> str:
    """Pull from `serve`, which must fail and leave the store as it was; return the error."""
    kept = bench.registry.add("kept", image([layer(file("kept"))]))
    await bench.service.pull(kept)
    before = bench.files(), bench.service.fs_usage()
    async with raw_registry(serve) as address:
        bench.conf.write_text(bench.conf.read_text() + f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
        with pytest.raises(CridError) as caught:
            await asyncio.wait_for(bench.service.pull(f"{address}/a"), 60)
    bench.service._stores.content.drop_partials(MADE.layers)
    await bench.service.collect()
    assert {name for name in bench.files() if not name.endswith("synced")} == {
        name for name in before[0] if not name.endswith("synced")
    }
    assert bench.service.fs_usage() == before[1]
    assert verify(bench.root) == []
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("name", MANIFESTS)
async def test_manifests(bench: Bench, impatient: None, name: str) -> None:
    message = await refused(bench, lambda path: sent(MANIFESTS[name]))
    assert any(word in message for word in ("127.0.0.1", "manifest")), message


@pytest.mark.parametrize("name", BLOBS)
async def test_blobs(bench: Bench, impatient: None, name: str) -> None:
    def serve(path: str) -> AsyncIterator[bytes]:
        if "/manifests/" in path:
            return sent(whole(MADE.manifest, b"Content-Type: " + MADE.media_type.encode()))
        return sent(whole(MADE.blobs[MADE.id]) if path.endswith(MADE.id) else BLOBS[name])

    assert MADE.layers[0] in await refused(bench, serve)
