"""An image service and a registry that does what it is told, in one process."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import web

from crid.image.registry_client import Patience, RegistryClient
from crid.image.service import ImageService
from crid.tasks import Supervisor
from tests.harness.scripted_registry import ScriptedRegistry
from tests.harness.tools import PATIENCE

IMPATIENT = Patience(connect=PATIENCE, read=PATIENCE, attempts=3, backoff=0.001, longest_wait=0.01, resumptions=5)
"""Tries again at once, and not often; but no attempt is given up because the machine stands still: tests count requests."""


@dataclass
class Bench:
    """A registry that does what it is told, and an image service that pulls from it."""

    registry: ScriptedRegistry
    service: ImageService
    supervisor: Supervisor
    root: Path
    conf: Path

    def hold(self, path: str) -> tuple[asyncio.Event, asyncio.Event]:
        """Have the registry answer `path` once the second event is set; the first one is when it has been asked."""
        asked, gate = asyncio.Event(), asyncio.Event()

        async def slow(request: web.Request) -> web.Response:
            asked.set()
            await gate.wait()
            return self.registry.serve(request)

        self.registry.script[path] = slow
        return asked, gate

    def files(self) -> list[str]:
        """Return what the stores hold besides their own directories and index, also while some of it is being deleted."""
        walk = os.walk(self.root)  # passes over a directory that has just gone
        found = {str((Path(top) / name).relative_to(self.root)) for top, _, names in walk for name in names}
        return sorted(found - {"images/oci-layout", "images/index.json"})


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("crid.image.registry_client.Patience", lambda progress: replace(IMPATIENT, progress=progress))
    async with ScriptedRegistry() as registry:
        conf = tmp_path / "registries.conf"
        conf.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
        supervisor = Supervisor("test")
        service = ImageService(tmp_path / "root", conf, supervisor, max_concurrent_downloads=3)
        service.load()
        yield Bench(registry, service, supervisor, tmp_path / "root", conf)
        await supervisor.close(5)
        await service.close()


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    made = RegistryClient(IMPATIENT)
    yield made
    await made.close()
