"""Repair and wipe where something fails. What they do on a whole machine is in tests/integration/e2e/test_check.py."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from crid import upkeep
from crid.assembly.locks import LOCK, locked
from crid.assembly.providers import Providers
from crid.config import Config
from crid.errors import UnavailableError
from crid.oci.exits import Exit
from crid.tasks import Supervisor
from tests.harness.tools import PATIENCE
from tests.unit.lifecycle.world import World, build


async def no_exits() -> AsyncIterator[Exit]:
    """A directory in which nothing is ever reported."""
    await asyncio.Event().wait()
    yield Exit("", 0, 0, False)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A node, whose directories, network and runtime are there again in each recovery."""
    supervisor = Supervisor("test")
    made = build(tmp_path, supervisor)
    made.follow()

    async def build_providers(config: Config, supervisor: Supervisor) -> Providers:
        again = await made.restarted(tmp_path)
        return cast(Providers, SimpleNamespace(parts=again.parts, places=again.places, exits=no_exits(), close=again.unfollow))

    monkeypatch.setattr(upkeep, "build_providers", build_providers)
    yield made
    await made.unfollow()
    await supervisor.close(0)


@pytest.mark.parametrize("failure", [UnavailableError("no plugin"), OSError(5, "Input/output error")])
async def test_a_stop_that_cannot_be_finished_keeps_no_other_from_it(
    world: World, failure: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_GRACE", 2 * PATIENCE)
    pods = [await world.pod("a"), await world.pod("b")]
    for pod in pods:
        world.network.detach_error = failure
        with pytest.raises(type(failure)):
            await world.sandboxes.stop(pod.id)
    assert len(world.network.attached) == 2
    world.network.detach_error = failure  # of the first one that asks
    async with asyncio.timeout(PATIENCE):  # nothing is waited for that never ends
        await upkeep.repair(Config())
    assert len(world.network.attached) == 1
    assert "cannot finish the stop of a pod" in caplog.text
    await upkeep.repair(Config())
    assert not world.network.attached


@pytest.mark.parametrize("images", [False, True])
def test_a_wipe_holds_the_locks_until_all_else_is_gone(tmp_path: Path, images: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that starts meanwhile would lose what it has just made."""
    root, run_root, imagestore = (tmp_path / name for name in ("root", "run", "images"))
    config = replace(Config(), root=str(root), runroot=str(run_root), image=replace(Config().image, imagestore=str(imagestore)))
    rmtree, removed = shutil.rmtree, set[Path]()

    def removal(path: Path) -> None:
        assert (root / LOCK).exists()
        assert path.parent == run_root or (path.parent / LOCK).exists()
        rmtree(path)
        removed.add(path.parent)

    monkeypatch.setattr(shutil, "rmtree", removal)
    with locked(config):
        for directory in (root, run_root, imagestore):
            for name in ("a", "z"):
                (directory / name).mkdir(parents=True)
        upkeep._remove_directories(config, images=images)
    assert removed == ({root, run_root, imagestore} if images else {root, run_root})
    assert [path.name for path in (root, run_root, imagestore) if path.exists()] == ([] if images else ["root", "images"])
