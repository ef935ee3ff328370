"""Undoing a creation where the runtime itself is the trouble; all else is tested with the runtimes."""

import os
from pathlib import Path

import pytest

from crid.errors import UnavailableError
from crid.model.container import Container
from crid.oci import conmon
from crid.oci.create import Creation
from crid.oci.placement import WithDaemon
from crid.oci.program import RuntimeCommand, RuntimePaths, RuntimeProgram
from tests.unit.oci.test_exits import a_container


class Placed(WithDaemon):
    """Notes whose monitor's place was removed."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    async def remove(self, container: Container) -> None:
        self.removed.append(container.id)


async def test_what_was_made_goes_though_the_runtime_does_not_delete_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conmon, "open_private_null", lambda: os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
    container = a_container(tmp_path, "a" * 64)
    program = RuntimeProgram("crun", Path("/nowhere/crun"), tmp_path, Path("/nowhere/conmon"))
    placed, cgroups = Placed(), list[str]()

    async def remove_cgroup(path: str) -> None:
        cgroups.append(path)

    paths = RuntimePaths(exits=tmp_path, attach_sockets=tmp_path)
    creation = Creation(RuntimeCommand(program, {}), paths, placement=placed, remove_cgroup=remove_cgroup)
    with pytest.raises(UnavailableError, match="conmon"):
        await creation.create(container)
    assert "/nowhere/crun" in caplog.text
    assert (placed.removed, cgroups) == ([container.id], [container.metadata.cgroup_path])
