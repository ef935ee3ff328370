"""Waiting for what must happen; programs from other packages: found, or the test is skipped."""

import asyncio
import gc
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

PATIENCE = float(os.environ.get("CRID_PATIENCE", "60"))
"""Seconds for what must happen on a busy machine: they only bound a run that hangs. An emulated machine needs more."""


def require_tool(name: str) -> Path:
    """Return the path of the program `name`, or skip the test (tests/conftest.py fails it where tools are required)."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"the program {name} is not installed (scripts/setup --dev installs it)")
    return Path(found)


def eventually(probe: Callable[[], T], what: str, *, patience: float = PATIENCE) -> T:
    """Return the first true value of `probe`, asked again and again; fail after `patience` seconds, naming `what`.

    A condition that holds is seen at once: patience bounds only how long a broken program may hold us up.
    """
    deadline = time.monotonic() + patience
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:g} s: {what}")
        time.sleep(0.01)
    return value


async def until(probe: Callable[[], object], what: str) -> None:
    """`eventually` for tests with an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.01)


def open_descriptors() -> set[str]:
    """Return the descriptors of this process, with garbage collected first: what an earlier test has left is closed now."""
    gc.collect()
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def virtual_machine() -> Path:
    """Return the program that runs a command in the small virtual machine, or skip the test."""
    beside = Path(__file__).parents[2].parent / "shared" / "vm" / "run"
    found = Path(os.environ.get("CRID_VM_RUN", beside))
    if not os.access(found, os.X_OK):
        pytest.skip(f"no virtual machine: neither CRID_VM_RUN nor {beside}")
    return found
