"""Whose process has a command line: those that crid itself builds, and those of others that look alike."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crid.lifecycle.check import processes
from crid.lifecycle.check.facts import Kind
from crid.lifecycle.check.processes import Programs, classify, process_traces
from crid.linux.process import identify
from crid.wire.conmon import ConmonCreate, ConmonExec
from tests.harness.tools import PATIENCE, eventually

RUN, ID = "/run/crid", "a" * 64
BUNDLE = f"{RUN}/containers/{ID}"
PROGRAMS = Programs(frozenset({"/opt/monitor"}), frozenset({"/run/crid/runtimes/crun"}), frozenset({"/opt/crid-pause"}))

CREATE = ConmonCreate(
    conmon="/opt/monitor",
    container_id=ID,
    name="x",
    bundle=BUNDLE,
    runtime="/usr/bin/crun",
    container_pidfile=f"{BUNDLE}/pidfile",
    conmon_pidfile=f"{BUNDLE}/conmon-pidfile",
    exit_dir=f"{RUN}/exits",
    persist_dir="/var/lib/crid/x",
    log_paths=("none",),
).argv()
EXEC = ConmonExec(
    conmon="/usr/bin/conmon",
    container_id=ID,
    name="x",
    runtime="/usr/bin/crun",
    process_spec="/proc/1/fd/3",
    log_path="/proc/1/fd/4",
    container_pidfile=f"{BUNDLE}/exec-1-0.pid",
).argv()
ROOT = ["--root", "/run/crid/runtimes/crun"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (CREATE, ("container", ID, Kind.MONITOR)),
        (EXEC, ("container", ID, Kind.EXEC)),
        (["/usr/bin/crun", *ROOT, "start", ID], ("container", ID, Kind.COMMAND)),
        (["/usr/bin/crun", *ROOT, "--systemd-cgroup", "delete", "--force", ID], ("container", ID, Kind.COMMAND)),
        (["/usr/bin/crun", *ROOT, "exec", "--process", "/proc/1/fd/5", ID], ("container", ID, Kind.EXEC)),
        (["/opt/crid-pause", "--net", f"{RUN}/pods/{ID}/ns/net"], ("pod", ID, Kind.COMMAND)),
        # the monitor's own calls of the runtime
        (["/usr/bin/crun", *ROOT, "create", "--bundle", BUNDLE, ID], None),
        (["/usr/bin/crun", *ROOT, "exec", "--pid-file", "x", "--process", "y", "--detach", ID], None),
        # others'
        (["/usr/bin/crun", "--root", "/run/other", "start", ID], None),
        (["/usr/bin/conmon", "-b", f"/run/other/containers/{ID}", "-c", ID], None),
        (["/usr/bin/conmon", "-b", f"{RUN}/containers/web"], None),
        (["tail", "-f", f"{BUNDLE}/config.json"], None),
        (["vim", f"{RUN}/pods/{ID}"], None),
        (["/usr/bin/crun", *ROOT, "features"], None),
        (["/opt/crid-pause"], None),
    ],
)
def test_whose_it_is(words: list[str], found: tuple[str, str, Kind] | None) -> None:
    assert classify(words, PROGRAMS, RUN) == found


def test_a_process_that_has_just_begun_its_program_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after execve(2) more than half of them have no command line yet."""
    monkeypatch.setattr(processes, "EXEC_PATIENCE", PATIENCE)

    def kinds(pid: int) -> list[Kind]:
        monkeypatch.setattr(processes, "_numbers", lambda: [str(pid)])
        return [trace.kind for trace in process_traces(PROGRAMS, tmp_path)]

    for _ in range(20):
        argv = ["conmon", "-", f"{tmp_path}/containers/{ID}"]
        with subprocess.Popen(argv, executable="/bin/cat", stdin=subprocess.PIPE) as begun:
            assert kinds(begun.pid) == [Kind.MONITOR]


def test_processes_are_found_with_their_parents(tmp_path: Path) -> None:
    """A monitor, and a CNI plugin that works for a pod."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "bridge").symlink_to("/bin/sleep")
    programs = Programs(frozenset(), frozenset(), frozenset(), frozenset({str(plugins)}))
    monitor = [sys.executable, "-c", "import time; time.sleep(100)", "-b", f"{tmp_path}/containers/{ID}"]
    environment = {"CNI_NETNS": f"{tmp_path}/pods/{ID}/ns/net"}
    with (
        subprocess.Popen(["conmon", *monitor[1:]], executable=monitor[0]) as one,
        subprocess.Popen([str(plugins / "bridge"), "100"], env=environment) as two,
        subprocess.Popen([str(plugins / "bridge"), "100"], env={"CNI_NETNS": f"/elsewhere/pods/{ID}/ns/net"}) as foreign,
    ):
        try:
            for begun in (one, two, foreign):  # Popen returns before the kernel has laid them out
                for file in ("cmdline", "environ"):
                    eventually(Path(f"/proc/{begun.pid}/{file}").read_bytes, f"process {begun.pid} has its {file}")
            found = {trace.process: trace for trace in process_traces(programs, tmp_path)}
            assert found.keys() == {identify(one.pid), identify(two.pid)}
            kinds = {(trace.of, trace.owner, trace.kind) for trace in found.values()}
            assert kinds == {("container", ID, Kind.MONITOR), ("pod", ID, Kind.COMMAND)}
            assert len({trace.parent for trace in found.values()}) == 1
        finally:
            for process in (one, two, foreign):
                process.kill()


@pytest.mark.root
def test_a_process_in_a_container_may_call_itself_anything(tmp_path: Path) -> None:
    """One that looks like a monitor is none if it has another PID namespace: nobody is to wait for it, or complain of it."""
    if os.geteuid():
        pytest.skip("needs root")
    argv = ["conmon", "-c", "import os, time; os.write(1, b'x'); time.sleep(100)", "-b", f"{tmp_path}/containers/{ID}"]
    inside = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c"]
    start = f"import os; os.execv({sys.executable!r}, {argv!r})"
    with subprocess.Popen([*inside, start], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"
            assert list(process_traces(PROGRAMS, tmp_path)) == []
        finally:
            process.kill()
