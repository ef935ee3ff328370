"""A runtime that was killed while it made itself safe from containers: what it left is gone, what is somebody else's stays."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crid.linux import mountinfo
from crid.oci import self_mounts
from tests.harness.tools import require_tool

pytestmark = pytest.mark.root

LEFT, OTHER = Path("/tmp/crun.l3ftbY"), Path("/tmp/crun.0thers")


@pytest.fixture
async def program() -> AsyncIterator[str]:
    """The program of crun, shown at LEFT and nowhere else, and another one, at OTHER."""
    path = os.path.realpath(require_tool("crun"))
    await self_mounts.remove({path})  # what other tests have left that kill crun
    shown = {LEFT: path, OTHER: os.path.realpath("/bin/true")}
    try:
        for place, source in shown.items():
            place.touch()
            subprocess.run(["mount", "--bind", "-o", "ro", source, place], check=True)
        yield path
    finally:
        for place in shown:
            subprocess.run(["umount", "-q", place], check=False)
            place.unlink(missing_ok=True)


def mounted() -> set[Path]:
    return {LEFT, OTHER} & {Path(entry.target) for entry in mountinfo.read()}


async def test_what_a_killed_runtime_has_left_is_unmounted(program: str) -> None:
    assert mounted() == {LEFT, OTHER}
    assert await self_mounts.remove({program}) == [str(LEFT)]
    assert mounted() == {OTHER}
    assert not LEFT.exists()
    assert await self_mounts.remove({program}) == []


async def test_one_in_use_is_left_to_its_owner(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who unmounts it meanwhile has been at work all the time."""
    monkeypatch.setattr(self_mounts, "PAUSE", 0)
    entries, looks = mountinfo.read(), iter((True, False))
    monkeypatch.setattr(mountinfo, "read", lambda: entries if next(looks) else [])
    assert await self_mounts.remove({program}) == []
    monkeypatch.undo()
    assert mounted() == {LEFT, OTHER}
