"""What this machine lacks, in the virtual machine: cgroup v2 alone, AppArmor, huge pages, SELinux. A boot for each LSM.

Without KVM everything takes ten times as long there, so the end-to-end tests that go in are chosen; `scripts/soak` runs much
more.
"""

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run"
NO_MACHINE = 77
ON_V2 = (
    "test_main_job or test_every_limit or whole_or_not or in_use_is_not or unified or test_out_of_memory_is or accounted"
    " or own_cgroup or test_apparmor.py or test_hugepages.py or outlive_an_update"
    " or test_a_monitor_in or test_no_quota or test_shared_cpus"
)
EVERYTHING = "tests/integration/e2e"
SELINUX = f"{EVERYTHING}/test_selinux.py"


@pytest.mark.root
@pytest.mark.skipif(bool(os.environ.get("CRID_IN_VM")), reason="this is the virtual machine")
@pytest.mark.parametrize(("options", "chosen", "path"), [([], ON_V2, EVERYTHING), (["--selinux"], "test", SELINUX)])
def test_end_to_end(options: list[str], chosen: str, path: str) -> None:
    """What passes out here passes there; and what only that kernel has."""
    pytest_ = ["pytest", "-p", "no:cacheprovider", "-rfEs", "--durations=5"]
    argv = [str(RUN), *options, *pytest_, "-k", f"({chosen}) and crun", path]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == NO_MACHINE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-20000:]
    assert " passed" in done.stdout, done.stdout[-2000:]
