"""Repair and wipe where something fails. What they do on a whole machine is in tests/integration/e2e/test_check.py."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from crid import upkeep
from crid.assembly.providers import Providers
from crid.config import Config
from crid.errors import UnavailableError
from crid.oci.exits import Exit
from crid.tasks import Supervisor
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
    world: World, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    pods = [await world.pod("a"), await world.pod("b")]
    for pod in pods:
        world.network.detach_error = failure
        with pytest.raises(type(failure)):
            await world.sandboxes.stop(pod.id)
    assert len(world.network.attached) == 2
    world.network.detach_error = failure  # of the first one that asks
    async with asyncio.timeout(upkeep._GRACE - 5):  # nothing is waited for that never ends
        await upkeep.repair(Config())
    assert len(world.network.attached) == 1
    assert "cannot finish the stop of a pod" in caplog.text
    await upkeep.repair(Config())
    assert not world.network.attached
