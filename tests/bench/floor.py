"""The floor: the OCI runtime alone, on the bundle that crid made.

Nobody that uses this runtime can be faster than it is, so crid's times are given as ratios to it. The bundle's
config.json is the one crid wrote for a container of a pod that lives meanwhile: the floor's containers join the namespaces
of that pod, as crid's join those of theirs. It differs only in its root file system (a directory of its own instead of an
overlay mount) and its cgroup.

The runtime is spawned by posix_spawn with its standard streams on /dev/null, and waited for: nothing else is measured.
"""

import copy
import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS = ("create", "start", "exec", "exec again at once", "kill", "delete")

SETTLE = 0.15
"""Seconds of rest before each part and before its first exec. The kernel takes network namespaces and cgroups apart after
their removal has returned, and the first move into a cgroup after a quiet time waits for an RCU grace period, later ones do
not. So each part starts alike: after the other's clean-up, and out of a quiet time, as a pod does that a node is asked
for."""


class Floor:
    """Runs one container after the other with `program`; `directory` is its own."""

    def __init__(self, program: Path, directory: Path, config: Path, layer: Path, cgroup: str) -> None:
        self._program = str(program)
        self._state = directory / "state"
        self._bundle = directory / "bundle"
        self._cgroup = cgroup
        self._count = 0
        rootfs = self._bundle / "rootfs"
        rootfs.mkdir(parents=True)
        subprocess.run(["tar", "--extract", "--gzip", "--file", layer, "--directory", rootfs], check=True)
        self._spec = self._own(json.loads(config.read_text()), rootfs)

    def _own(self, spec: dict[str, Any], rootfs: Path) -> dict[str, Any]:
        spec = copy.deepcopy(spec)
        spec["root"]["path"] = str(rootfs)
        return spec

    def round(self) -> dict[str, float]:
        """Take one container from create to delete and return the seconds of each step."""
        self._count += 1
        name = f"floor-{self._count}"
        self._spec["linux"]["cgroupsPath"] = f"{self._cgroup}/{name}"
        (self._bundle / "config.json").write_text(json.dumps(self._spec))
        pid_file = self._bundle / "pid"
        times = {
            "create": self._run("create", "--bundle", str(self._bundle), "--pid-file", str(pid_file), name),
            "start": self._run("start", name),
        }
        time.sleep(SETTLE)
        for step in ("exec", "exec again at once"):
            times[step] = self._run("exec", name, "/bin/true")
        descriptor = os.pidfd_open(int(pid_file.read_text()))
        times["kill"] = self._run("kill", name, "KILL")
        began = time.perf_counter()
        select.select([descriptor], [], [])  # a pidfd is readable once its process has ended
        times["kill"] += time.perf_counter() - began
        os.close(descriptor)
        times["delete"] = self._run("delete", name)
        return times

    def _run(self, *words: str) -> float:
        argv = [self._program, "--root", str(self._state), *words]
        began = time.perf_counter()
        code = spawn_and_wait(argv)
        elapsed = time.perf_counter() - began
        if code:
            raise RuntimeError(f"exit code {code}: {' '.join(argv)}")
        return elapsed


def spawn_and_wait(argv: Sequence[str]) -> int:
    """Run a program with its streams on /dev/null and return its exit code."""
    streams = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2)]
    pid = os.posix_spawn(argv[0], list(argv), os.environ, file_actions=streams)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
