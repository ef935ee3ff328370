"""Downloads that others end, or share: what one pull's failure may not do to what is on its way."""

import asyncio
import threading

import pytest

from crid.image.ingest import StagedLayer
from tests.harness.image_bench import Bench
from tests.harness.layers import file, image, layer

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
