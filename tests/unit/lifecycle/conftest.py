import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from crid.lifecycle import layer_sizes
from crid.linux import pid_namespace
from crid.linux.process import identify
from crid.model.process import ProcessIdentity
from crid.model.sandbox import NamespacePaths
from crid.tasks import Supervisor
from tests.harness.tools import PATIENCE
from tests.unit.lifecycle.world import World, build


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A node whose exits are followed, and whose pause processes are a list."""
    supervisor = Supervisor("test")
    made = build(tmp_path, supervisor)

    async def start_pause(
        program: Path,
        report: Path,
        *,
        namespaces: NamespacePaths,
        user: str = "",
        cgroup_procs: Sequence[str] = (),
        process_label: str = "",
        mount_label: str = "",
    ) -> ProcessIdentity:
        process = identify(os.getpid())  # one that is alive
        assert process is not None
        made.pauses.append(process)
        return process

    async def stop_pause(process: ProcessIdentity) -> None:
        if process in made.pauses:
            made.pauses.remove(process)

    monkeypatch.setattr(pid_namespace, "start_pause", start_pause)
    monkeypatch.setattr(pid_namespace, "stop_pause", stop_pause)
    monkeypatch.setattr(layer_sizes, "PATIENCE", PATIENCE)
    made.follow()
    yield made
    await made.unfollow()
    await supervisor.close(0)
