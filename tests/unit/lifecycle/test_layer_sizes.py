"""Sizes of writable layers: kept for a while, walked once whoever asks, and never waited for by a list."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crid.lifecycle import layer_sizes
from crid.lifecycle.layer_sizes import LayerSizes
from crid.linux import disk
from crid.tasks import Supervisor
from tests.harness.tools import PATIENCE, until


class Walks:
    """Stands before the real walk: counts, and holds them up while `going` is not set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.going = threading.Event()
        self.going.set()
        real = disk.disk_usage

        def walk(directory: str, **more: object) -> disk.DiskUsage:
            self.begun.append(Path(directory).name)
            assert self.going.wait(60)
            return real(directory)

        monkeypatch.setattr(disk, "disk_usage", walk)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Walks:
    return Walks(monkeypatch)


@pytest.fixture
async def sizes(tmp_path: Path, walks: Walks, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LayerSizes]:
    """They are waited for, and do not age, however long this machine stands still."""
    monkeypatch.setattr(layer_sizes, "PATIENCE", PATIENCE)
    monkeypatch.setattr(layer_sizes, "MAX_AGE", 3600.0)
    supervisor = Supervisor("test")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    made = LayerSizes(supervisor, lambda identifier: tmp_path / identifier)
    yield made
    walks.going.set()
    made.close()
    await supervisor.close(60)


async def test_a_size_is_kept_for_a_while(
    sizes: LayerSizes, walks: Walks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (await sizes.of(["a", "b"]))["a"]
    assert first is not None
    assert first.inodes == 1
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    assert await sizes.of(["a"]) == {"a": first}
    assert sorted(walks.begun) == ["a", "b"]
    monkeypatch.setattr(layer_sizes, "MAX_AGE", 0.0)
    again = (await sizes.of(["a"]))["a"]
    assert again is not None
    assert (again.inodes, again.used_bytes >= 100_000) == (2, True)


async def test_a_long_walk_holds_up_no_list(sizes: LayerSizes, walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on, once for all who ask, and the first to ask after its end gets what it found."""
    monkeypatch.setattr(layer_sizes, "PATIENCE", 0.05)
    walks.going.clear()
    assert await sizes.of(["a"]) == {"a": None}
    assert await asyncio.gather(*(sizes.of(["a"]) for _ in range(5))) == [{"a": None}] * 5
    await until(lambda: walks.begun, "its thread has begun")
    assert walks.begun == ["a"]
    walks.going.set()
    async with asyncio.timeout(PATIENCE):
        while (await sizes.of(["a"]))["a"] is None:
            await asyncio.sleep(0.01)
    assert walks.begun == ["a"]


async def test_the_last_size_is_told_while_a_new_one_is_measured(
    sizes: LayerSizes, walks: Walks, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await sizes.of(["a"])
    monkeypatch.setattr(layer_sizes, "MAX_AGE", 0.0)
    monkeypatch.setattr(layer_sizes, "PATIENCE", 0.05)
    walks.going.clear()
    assert await sizes.of(["a"]) == first
    await until(lambda: walks.begun == ["a", "a"], "the new walk has begun")


async def test_what_is_gone_has_none_and_is_forgotten(sizes: LayerSizes) -> None:
    assert await sizes.of(["gone"]) == {"gone": None}
    await sizes.of(["a"])
    sizes.keep_only({"a"})
    assert repr(sizes) == "<LayerSizes known=1 walks=0>"


async def test_an_end_gives_up_the_walk(tmp_path: Path) -> None:
    """However large the layer is: it is asked for at each directory."""
    closed = threading.Event()
    closed.set()
    with pytest.raises(OSError, match="given up"):
        disk.disk_usage(str(tmp_path), given_up=closed.is_set)
