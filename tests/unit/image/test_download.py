"""Downloads that others end, or share: what one pull's failure may not do to what is on its way."""

import asyncio
import threading
from typing import Any

import pytest
from aiohttp import web

from crid.errors import NotFoundError
from crid.image.ingest import StagedLayer
from tests.harness.image_bench import Bench
from tests.harness.layers import file, image, layer
from tests.harness.tools import until

pytestmark = pytest.mark.root

SHARED = layer(file("shared", b"s" * 5000))


async def test_a_layer_that_becomes_visible_is_not_removed_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that is cancelled waits for the thread that renames a layer's directory, before it removes that directory."""
    commit, close = StagedLayer.commit, StagedLayer.close
    begun, go_on = asyncio.Event(), threading.Event()
    loop, order = asyncio.get_running_loop(), []

    def slow(staged: StagedLayer) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(60)
        commit(staged)
        order.append("visible")

    def closing(staged: StagedLayer) -> None:
        order.append("closed")
        close(staged)

    monkeypatch.setattr(StagedLayer, "commit", slow)
    monkeypatch.setattr(StagedLayer, "close", closing)
    caller = loop.create_task(bench.service.pull(bench.registry.add("a", image([SHARED]))))
    await begun.wait()
    ending = loop.create_task(bench.supervisor.close(0))
    for _ in range(50):
        await asyncio.sleep(0.001)
    go_on.set()
    await ending
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert order == ["visible", "closed"]
    [directory] = (path for path in (bench.root / "layers").iterdir() if len(path.name) == 64)
    assert (directory / "diff" / "shared").exists()


async def test_a_failure_leaves_alone_what_another_pull_is_bringing(bench: Bench) -> None:
    """Two images share a layer; the one of them whose other layer is not there does not take away what has come of it."""
    good, bad = image([SHARED]), image([SHARED, layer(file("bad"))])
    references = bench.registry.add("good", good), bench.registry.add("bad", bad)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        content = good.blobs[good.layers[0]]
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[:10])
        begun.set()
        await go_on.wait()
        await response.write(content[10:])
        return response

    async def missing(_: Any) -> web.Response:
        return web.Response(status=404)

    bench.registry.script[f"/v2/good/blobs/{good.layers[0]}"] = slow
    bench.registry.script[f"/v2/bad/blobs/{bad.layers[1]}"] = missing
    caller = asyncio.get_running_loop().create_task(bench.service.pull(references[0]))
    await begun.wait()
    await until(lambda: list((bench.root / "images/partial").iterdir()), "the layer's file is open")
    with pytest.raises(NotFoundError, match=bad.layers[1]):
        await bench.service.pull(references[1])
    go_on.set()
    assert (await caller).id == good.id
