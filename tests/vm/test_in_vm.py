"""What this machine lacks, in the virtual machine: cgroup v2 alone, AppArmor, huge pages, SELinux. A boot for each LSM.

Without KVM everything takes ten times as long there, so the end-to-end tests that go in are chosen; `scripts/soak` runs much
more. Both boots run at the same time: each keeps little more than one processor busy.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run"
NO_MACHINE = 77
SILENCE = 600.0
"""Seconds. Whatever waits in there gives up long before, and says so: a machine that is silent for longer has itself stopped,
as an emulated one with two processors may (`tests/reliability/test_power.py`), and is booted again, once."""
ON_V2 = (
    "test_main_job or test_every_limit or whole_or_not or in_use_is_not or unified or test_out_of_memory_is or accounted"
    " or own_cgroup or test_apparmor.py or test_hugepages.py or outlive_an_update"
    " or test_a_monitor_in or test_no_quota or test_shared_cpus or own_cpus or load_balancing"
    " or files_of or files_that or writable or test_classes.py"
)
EVERYTHING = "tests/integration/e2e"
RUNS = {"apparmor": ([], ON_V2, EVERYTHING), "selinux": (["--selinux"], "test", f"{EVERYTHING}/test_selinux.py")}


class Boot:
    """One run of the machine, from its making on; what it prints goes into a file."""

    def __init__(self, name: str, log: Path) -> None:
        options, chosen, path = RUNS[name]
        pytest_ = ["pytest", "-p", "no:cacheprovider", "-rfEs", "--durations=5"]
        self._argv = [str(RUN), *options, *pytest_, "-k", f"({chosen}) and crun", path]
        self._log = log
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("wb") as out:
            return subprocess.Popen(self._argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)

    def ended(self) -> tuple[int, str]:
        """Return the exit code and what was printed, once it has ended."""
        if not self._ends():
            print("the virtual machine has stopped, and is booted again:", self._log.read_text(errors="replace")[-2000:])
            self.end()
            self._process = self._start()
        return self._process.wait(), self._log.read_text(errors="replace")

    def _ends(self) -> bool:
        """Wait for its end; return False if it is silent for too long."""
        size, since = 0, time.monotonic()
        while self._process.poll() is None:
            if (now := self._log.stat().st_size) != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since > SILENCE:
                return False
            time.sleep(1)
        return True

    def end(self) -> None:
        """End it, with the machine that it has started, if nobody has waited for it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


@pytest.fixture(scope="module")
def boots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Boot]]:
    """All of them, running."""
    logs = tmp_path_factory.mktemp("vm")
    found = {name: Boot(name, logs / name) for name in RUNS}
    yield found
    for boot in found.values():
        boot.end()


@pytest.mark.root
@pytest.mark.skipif(bool(os.environ.get("CRID_IN_VM")), reason="this is the virtual machine")
@pytest.mark.parametrize("name", RUNS)
def test_end_to_end(boots: dict[str, Boot], name: str) -> None:
    """What passes out here passes there; and what only that kernel has."""
    code, text = boots[name].ended()
    if code == NO_MACHINE:
        pytest.skip(text.strip())
    assert code == 0, text[-20000:]
    assert " passed" in text, text[-2000:]
