"""What this machine lacks, in the virtual machine: cgroup v2 alone, AppArmor. One boot; `scripts/soak` runs much more there.

Without KVM everything takes ten times as long there, so the end-to-end tests that go in are chosen.
"""

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run"
NO_MACHINE = 77
CHOSEN = (
    "test_main_job.py or test_every_limit or whole_or_not or in_use_is_not or unified or test_out_of_memory or accounted"
    " or own_cgroup or test_apparmor.py"
)


@pytest.mark.root
@pytest.mark.skipif(bool(os.environ.get("CRID_IN_VM")), reason="this is the virtual machine")
@pytest.mark.parametrize("runtime", ["crun"])
def test_end_to_end_on_cgroup_v2(runtime: str) -> None:
    """Main job, limits, statistics, out of memory, AppArmor: the tests that run out here on v1 pass there on v2."""
    pytest_ = ["pytest", "-p", "no:cacheprovider", "-rfEs", "--durations=5"]
    argv = [str(RUN), *pytest_, "-k", f"({CHOSEN}) and {runtime}", "tests/integration/e2e"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == NO_MACHINE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-20000:]
    assert " passed" in done.stdout, done.stdout[-2000:]
