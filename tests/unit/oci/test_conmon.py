"""Launching a monitor where the machine has no more of something; all else is tested with conmon itself."""

import os
from pathlib import Path

import pytest

from crid.oci import conmon
from tests.harness.tools import open_descriptors
from tests.unit.oci.test_exec_sync import fail_after


async def nowhere(pid: int) -> None:
    pytest.fail("nothing was started that could be placed")


@pytest.mark.parametrize("successes", range(3))
async def test_without_descriptors_none_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, successes: int) -> None:
    monkeypatch.setattr(conmon, "open_private_null", lambda: os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
    with monkeypatch.context() as patch:
        refused = fail_after(patch, successes)
        before = open_descriptors()
        with pytest.raises(OSError, match="Too many open files"):
            await conmon.launch(["/nowhere/conmon"], conmon.MonitorFiles(tmp_path), {}, place=nowhere)
        assert len(refused) == 1
        assert open_descriptors() == before
