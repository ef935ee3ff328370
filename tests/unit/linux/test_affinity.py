"""On which CPUs what is spawned runs."""

import os
import sys
from pathlib import Path

import pytest

from crid.linux import affinity, process

SCRIPT = "import os, sys; open(sys.argv[1], 'w').write(str(sorted(os.sched_getaffinity(0))))"


@pytest.mark.parametrize("nothing_else", [True, False])
async def test_what_is_spawned_within_stays_within(tmp_path: Path, nothing_else: bool) -> None:
    """The caller stays where it is; without a wish nothing changes."""
    everywhere = os.sched_getaffinity(0)
    allowed = {min(everywhere)} if nothing_else else set[int]()
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path / "said")]
    child = affinity.within(allowed, lambda: process.spawn(argv, descriptors={}, environment={}))
    assert await child.wait() == 0
    assert (tmp_path / "said").read_text() == str(sorted(allowed or everywhere))
    assert os.sched_getaffinity(0) == everywhere


def test_what_goes_wrong_within_goes_wrong_outside() -> None:
    with pytest.raises(ValueError, match="x"):
        affinity.within({min(os.sched_getaffinity(0))}, lambda: int("x"))


def test_cpus_that_cannot_be_had_are_said(caplog: pytest.LogCaptureFixture) -> None:
    everywhere = os.sched_getaffinity(0)
    assert affinity.within({1000}, lambda: os.sched_getaffinity(0)) == everywhere
    assert "cannot run on the CPUs" in caplog.text
    affinity.restrict(2**22 + 1, everywhere)  # no such process: nothing to do
