"""The systemd cgroup driver, with crun and with runc: chosen end-to-end tests below a systemd of their own.

`scripts/in-systemd` runs one on any host; `scripts/soak` runs all end-to-end tests, and critest, there.
"""

import subprocess
import sys
from pathlib import Path

import pytest

IN_SYSTEMD = Path(__file__).parents[2] / "scripts" / "in-systemd"
CHOSEN = (
    "test_slices or test_a_pod_from_start_to_end or test_every_limit or whole_or_not or test_out_of_memory_is or accounted"
    " or own_cgroup or outlive_an_update or opens_every_device or works_is_clean or leaves_no_trace"
)


@pytest.mark.root
def test_end_to_end_below_systemd() -> None:
    """Pods in slices, containers in scopes: start to end, limits and their updates, devices, out of memory, check and wipe."""
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfEs", "-k", CHOSEN, "tests/integration/e2e"]
    done = subprocess.run([str(IN_SYSTEMD), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20000:]
    assert " passed" in done.stdout, done.stdout[-2000:]
