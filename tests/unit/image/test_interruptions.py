"""Pulls that are interrupted, resumed, limited or refused for want of room."""

import asyncio
import gzip
import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from aiohttp import web

from crid.config import ImageConfig
from crid.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from crid.image.limits import LayerLimits
from crid.image.registry_client import RegistryClient
from crid.image.service import ImageService
from crid.store import gc
from crid.store.content import PARTIAL_SECONDS, Ingest
from tests.harness.image_bench import Bench
from tests.harness.layers import MadeImage, entry, file, image, layer
from tests.harness.tools import until

pytestmark = pytest.mark.root


def large() -> MadeImage:
    return image([layer(file("a", os.urandom(300_000)))])


def breaking(bench: Bench, made: MadeImage, after: int) -> str:
    """Let the layer's download break after so many bytes, and then never come up; return its path."""
    path, asked = f"/v2/a/blobs/{made.layers[0]}", 0
    part = bench.root / "images/partial" / made.layers[0]

    async def broken(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked > 1:  # the error overtakes what a slow thread has not written yet
            await until(lambda: part.exists() and part.stat().st_size, "what came has been written")
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Length": str(len(made.blobs[made.layers[0]]))})
        await response.prepare(request)
        await response.write(made.blobs[made.layers[0]][:after])
        assert request.transport is not None
        request.transport.close()
        return response

    bench.registry.script[path] = broken
    return path


async def interrupted(bench: Bench, made: MadeImage, after: int = 100_000) -> tuple[str, Path]:
    """Break a pull; return its reference and what is left of the layer."""
    reference = bench.registry.add("a", made)
    path = breaking(bench, made, after)
    with pytest.raises(UnavailableError):
        await bench.service.pull(reference)
    del bench.registry.script[path]
    return reference, bench.root / "images/partial" / made.layers[0]


async def restarted(bench: Bench) -> ImageService:
    service = ImageService(bench.root, bench.conf, bench.supervisor)
    service.load()
    return service


async def test_a_broken_download_goes_on_after_a_restart(bench: Bench) -> None:
    made = large()
    reference, left = await interrupted(bench, made)
    size = left.stat().st_size
    assert 0 < size <= 100_000
    ranges: list[str] = []

    async def listening(request: web.Request) -> web.Response:
        ranges.append(request.headers.get("Range", ""))
        return bench.registry.serve(request)

    bench.registry.script[f"/v2/a/blobs/{made.layers[0]}"] = listening
    service = await restarted(bench)
    assert (await service.pull(reference)).id == made.id
    assert ranges == [f"bytes={size}-"]
    assert not left.exists()
    await service.close()


async def test_a_part_that_was_damaged_is_fetched_anew(bench: Bench) -> None:
    made = large()
    reference, left = await interrupted(bench, made)
    left.write_bytes(bytes(left.stat().st_size))
    assert (await bench.service.pull(reference)).id == made.id


@pytest.mark.parametrize("size", [300_000_000, 0])
async def test_a_part_of_another_size(bench: Bench, size: int) -> None:
    made = large()
    reference, left = await interrupted(bench, made)
    os.truncate(left, size)
    assert (await bench.service.pull(reference)).id == made.id


async def test_a_whole_part_is_not_asked_for_again(bench: Bench) -> None:
    made = large()
    reference, left = await interrupted(bench, made)
    left.write_bytes(made.blobs[made.layers[0]])
    bench.registry.requests.clear()
    assert (await bench.service.pull(reference)).id == made.id
    assert f"/v2/a/blobs/{made.layers[0]}" not in bench.registry.paths()


async def test_old_parts_are_garbage(bench: Bench) -> None:
    _, left = await interrupted(bench, large())
    await bench.service.collect()
    assert left.exists()
    old = time.time() - PARTIAL_SECONDS - 1
    os.utime(left, (old, old))
    await bench.service.collect()
    assert not left.exists()


async def test_an_old_part_of_a_blob_that_came_otherwise_is_garbage(bench: Bench) -> None:
    """From another registry, or by an import: the image that needs the blob does not need the part."""
    made = large()
    reference, left = await interrupted(bench, made)
    bench.service._stores.content.add("", made.blobs[made.layers[0]], made.layers[0])
    await bench.service.pull(reference)
    await bench.service.collect()
    assert left.exists()
    os.utime(left, (1, 1))
    await bench.service.collect()
    assert not left.exists()


async def test_an_old_part_that_is_garbage_is_nobodys_beginning(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that begins while garbage is being deleted, which takes as long as it takes, writes to a file of its own."""
    reference, left = await interrupted(bench, made := large())
    os.utime(left, (1, 1))
    deleting, opened, go_on = asyncio.Event(), asyncio.Event(), threading.Event()
    loop, delete, enter = asyncio.get_running_loop(), gc.delete, Ingest.__enter__

    def slow(doomed: Iterable[Path]) -> None:
        loop.call_soon_threadsafe(deleting.set)
        go_on.wait(60)
        delete(doomed)

    def opening(blob: Ingest) -> Ingest:
        entered = enter(blob)
        if blob._temporary == left:
            loop.call_soon_threadsafe(opened.set)
        return entered

    async def gate(request: web.Request) -> web.Response:
        await opened.wait()
        go_on.set()
        await collecting
        return bench.registry.serve(request)

    monkeypatch.setattr(gc, "delete", slow)
    collecting = loop.create_task(bench.service.collect())
    await deleting.wait()
    monkeypatch.setattr(Ingest, "__enter__", opening)
    bench.registry.script[f"/v2/a/blobs/{made.layers[0]}"] = gate
    assert (await bench.service.pull(reference)).id == made.id
    assert not list((bench.root / "images/ingest").iterdir())


async def test_an_image_that_lost_a_layer_is_pulled_from_its_blobs(bench: Bench) -> None:
    made = large()
    reference = bench.registry.add("a", made)
    pulled = await bench.service.pull(reference)
    directory = bench.root / "layers" / pulled.chain_ids[0][7:]
    await until((directory / "synced").exists, "it is flushed")
    shutil.rmtree(directory)
    for path in (bench.root / "images/blobs/sha256").iterdir():
        os.utime(path, (0, 0))
    service = await restarted(bench)
    assert service.list_images() == []
    bench.registry.requests.clear()
    assert (await service.pull(reference)).id == made.id
    assert not [path for path in bench.registry.paths() if "blobs" in path]
    await service.close()


async def test_a_layer_that_a_power_cut_may_have_torn_is_made_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = bench.registry.add("a", large())
    pulled = await bench.service.pull(reference)
    synced = bench.root / "layers" / pulled.chain_ids[0][7:] / "synced"
    while not synced.exists():
        await asyncio.sleep(0.01)
    monkeypatch.setattr("crid.store.layers.boot_id", lambda: "the next boot")
    service = await restarted(bench)
    assert service.list_images() == [pulled]
    await service.close()
    synced.unlink()
    service = await restarted(bench)
    assert service.list_images() == []
    assert not synced.parent.exists()
    bench.registry.requests.clear()
    assert await service.pull(reference) == pulled
    assert not [path for path in bench.registry.paths() if "blobs" in path]
    await service.close()


async def test_an_image_that_nobody_waits_for_any_more_is_flushed(bench: Bench) -> None:
    """Or else the next boot would take its layers for torn."""
    made = large()
    reference = bench.registry.add("a", made)
    started, gate = bench.hold(f"/v2/a/blobs/{made.layers[0]}")
    caller = asyncio.get_running_loop().create_task(bench.service.pull(reference))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    await until(lambda: list((bench.root / "layers").glob("?" * 64 + "/synced")), "its layer is flushed")


async def test_what_a_failed_pull_has_brought_goes_though_nobody_waits_for_it(bench: Bench) -> None:
    made = image([layer(file("a", b"a" * 5000)), layer(file("b"))])
    reference = bench.registry.add("a", made)
    started, gate = asyncio.Event(), asyncio.Event()

    async def refusing(_: web.Request) -> web.Response:
        started.set()
        await gate.wait()
        return web.Response(status=404)

    bench.registry.script[f"/v2/a/blobs/{made.layers[1]}"] = refusing
    caller = asyncio.get_running_loop().create_task(bench.service.pull(reference))
    await started.wait()
    await until(lambda: list((bench.root / "layers").glob("?" * 64)), "its first layer is there")
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    await until(lambda: bench.files() == [], "nothing is left of it")


async def test_layers_that_a_killed_daemon_has_not_flushed_are_flushed_by_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = bench.registry.add("a", large())
    with monkeypatch.context() as patch:
        patch.setattr("crid.store.layers.LayerStore.sync", lambda store: None)  # it was killed before
        pulled = await bench.service.pull(reference)
        await bench.supervisor.close(30)
    service = await restarted(bench)
    await bench.supervisor.close(30)
    assert (bench.root / "layers" / pulled.chain_ids[0][7:] / "synced").exists()
    monkeypatch.setattr("crid.store.layers.boot_id", lambda: "the next boot")
    service = await restarted(bench)
    assert service.list_images() == [pulled]
    await service.close()


async def test_what_cannot_fit_is_not_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = large()
    reference = bench.registry.add("a", made)
    real = os.statvfs(bench.root)
    monkeypatch.setattr("crid.store.room.os.statvfs", lambda path: os.statvfs_result([real.f_bsize, 1, 9, 9, 9, *real[5:]]))
    with pytest.raises(ResourceExhaustedError, match=rf"^image {reference}: needs at least \d+ bytes in .*, 9 are free$"):
        await bench.service.pull(reference)
    assert f"/v2/a/blobs/{made.layers[0]}" not in bench.registry.paths()
    assert bench.files() == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (ImageConfig(layer_size_limit=2_000_000), "unpacks to more than 2000000 bytes"),
        (ImageConfig(layer_entries_limit=10), "more than 10 entries"),
    ],
)
async def test_a_bomb_is_stopped_and_leaves_nothing(bench: Bench, settings: ImageConfig, complaint: str) -> None:
    made = image([layer(*(file(f"f{number}", bytes(300_000)) for number in range(11)))])
    service = ImageService(bench.root, bench.conf, bench.supervisor, settings=settings)
    service.load()
    with pytest.raises(InvalidArgumentError, match=complaint) as caught:
        await service.pull(bench.registry.add("a", made))
    assert made.layers[0] in str(caught.value)
    assert bench.files() == []
    await service.close()


async def test_a_bomb_behind_the_archives_end(bench: Bench) -> None:
    content = layer(file("a")) + bytes(3_000_000)
    service = ImageService(bench.root, bench.conf, bench.supervisor, settings=ImageConfig(layer_size_limit=2_000_000))
    service.load()
    with pytest.raises(InvalidArgumentError, match="unpacks to more"):
        await service.pull(bench.registry.add("a", image([content])))
    await service.close()


async def test_a_bomb_for_its_size(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files in a layer that is as large are fine."""
    monkeypatch.setattr("crid.image.limits._RATIO_FROM", 1 << 20)
    made = image([layer(file("f", bytes(3_000_000)))])
    service = ImageService(bench.root, bench.conf, bench.supervisor, settings=ImageConfig(layer_ratio_limit=100))
    service.load()
    with pytest.raises(InvalidArgumentError, match="unpacks to more than 1048576 bytes"):
        await service.pull(bench.registry.add("a", made))
    assert bench.files() == []
    await service.pull(bench.registry.add("b", image([layer(file("f", bytes(3_000_000)))], compression="")))
    await service.close()


def test_limits_by_ratio() -> None:
    assert LayerLimits(ratio=100).bytes_of(10) == 1 << 30
    assert LayerLimits(ratio=100).bytes_of(1 << 30) == 100 << 30
    assert LayerLimits(size=5, ratio=100).bytes_of(1 << 30) == 5
    assert LayerLimits().bytes_of(10) == 0
    assert LayerLimits(ratio=100).bytes_of(0) == 0


async def test_a_body_that_drips_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.harness.image_bench import IMPATIENT

    made = large()

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(made.blobs[made.layers[0]]))})
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(0.01)
        return response

    service = ImageService(bench.root, bench.conf, bench.supervisor, settings=ImageConfig(pull_progress_timeout="100ms"))
    service.load()
    reference = bench.registry.add("a", made)
    bench.registry.script[f"/v2/a/blobs/{made.layers[0]}"] = dripping
    assert IMPATIENT.read > 1
    with pytest.raises(UnavailableError, match="does not answer in time"):
        await service.pull(reference)
    await service.close()


@pytest.mark.parametrize("form", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
async def test_retry_after_in_its_forms(bench: Bench, client: RegistryClient, form: str) -> None:
    made = large()
    reference = bench.registry.add("a", made)
    refusals = 2

    async def busy(request: web.Request) -> web.Response:
        nonlocal refusals
        refusals -= 1
        return web.Response(status=429, headers={"Retry-After": form}) if refusals >= 0 else web.Response()

    bench.registry.gate = busy
    assert (await bench.service.pull(reference)).id == made.id


async def test_lazy_formats_are_plain_layers(bench: Bench) -> None:
    """estargz is gzip in several members with a table at its end, zstd:chunked is zstd with one in a skippable frame."""
    import zstandard

    plain = [layer(file("a", b"1" * 5000)), layer(entry("stargz.index.json", content=b"{}"), file("b", b"2"))]
    half = len(plain[0]) // 2 // 512 * 512
    estargz = gzip.compress(plain[0][:half]) + gzip.compress(plain[0][half:]) + gzip.compress(b"")
    table = b"\x51\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"toc!"
    chunked = zstandard.compress(plain[1][:1024]) + zstandard.compress(plain[1][1024:]) + table
    made = stored_as(plain, [estargz, chunked])
    assert (await bench.service.pull(bench.registry.add("a", made))).id == made.id


def stored_as(plain: list[bytes], stored: list[bytes]) -> MadeImage:
    """Return an image of `plain` layers whose blobs are `stored`."""
    import json

    from tests.harness.layers import digest_of

    made = image(plain)
    document = json.loads(made.manifest)
    for blob, content, kind in zip(document["layers"], stored, ("+gzip", "+zstd"), strict=True):
        blob |= {
            "digest": digest_of(content),
            "size": len(content),
            "mediaType": f"application/vnd.oci.image.layer.v1.tar{kind}",
        }
        made.blobs[digest_of(content)] = content
    return MadeImage(made.media_type, json.dumps(document).encode(), made.blobs)
