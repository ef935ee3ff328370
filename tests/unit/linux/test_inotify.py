import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from crid.linux import inotify
from crid.linux.inotify import Event, Watcher
from tests.harness.tools import PATIENCE


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.close()


async def following(watcher: Watcher) -> Event:
    async with asyncio.timeout(PATIENCE):
        return await anext(watcher)


async def test_events_name_directory_and_file(tmp_path: Path, watcher: Watcher) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    watcher.add(str(one), inotify.IN_CREATE | inotify.IN_MOVED_TO)
    watcher.add(str(two), inotify.IN_CLOSE_WRITE)
    (one / "né").touch()
    (two / "b").write_text("x")
    (two / "b").rename(one / "c")
    assert await following(watcher) == Event(str(one), "né", inotify.IN_CREATE)
    assert await following(watcher) == Event(str(two), "b", inotify.IN_CLOSE_WRITE)
    assert await following(watcher) == Event(str(one), "c", inotify.IN_MOVED_TO)


async def test_waits_for_an_event_that_comes_later(tmp_path: Path, watcher: Watcher) -> None:
    watcher.add(str(tmp_path), inotify.IN_CREATE)
    task = asyncio.create_task(following(watcher))
    await asyncio.sleep(0)
    (tmp_path / "late").touch()
    assert (await task).name == "late"


async def test_a_removed_directory_says_so(tmp_path: Path, watcher: Watcher) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    watcher.add(str(directory), inotify.IN_DELETE_SELF)
    directory.rmdir()
    assert (await following(watcher)).mask == inotify.IN_DELETE_SELF
    last = await following(watcher)
    assert last.gone
    assert last.path == str(directory)


async def test_overflow_is_an_event(tmp_path: Path, watcher: Watcher) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watcher.add(str(tmp_path), inotify.IN_CREATE | inotify.IN_DELETE)
    for number in range(limit // 2 + 1):  # equal events in a row are merged: names must alternate
        path = tmp_path / str(number % 2)
        path.touch()
        path.unlink()
    count = 0
    while not (event := await following(watcher)).overflow:
        count += 1
    assert count == limit
    assert event == Event("", "", inotify.IN_Q_OVERFLOW)


async def test_close_ends_the_iteration_of_a_waiting_task(tmp_path: Path, watcher: Watcher) -> None:
    watcher.add(str(tmp_path), inotify.IN_CREATE)

    async def collect() -> list[Event]:
        return [event async for event in watcher]

    task = asyncio.create_task(collect())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    watcher.close()
    watcher.close()
    async with asyncio.timeout(PATIENCE):
        assert await task == []


async def test_two_tasks_cannot_share_one(watcher: Watcher) -> None:
    task = asyncio.create_task(following(watcher))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await anext(watcher)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_missing_path_is_named(tmp_path: Path, watcher: Watcher) -> None:
    with pytest.raises(FileNotFoundError, match=r"inotify_add_watch.*/missing"):
        watcher.add(str(tmp_path / "missing"), inotify.IN_CREATE)
