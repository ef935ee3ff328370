"""Which processes on the host are crid's own: monitors, runtimes and helpers, known by their command lines.

A container cannot pass for one to anybody's harm: whoever copies such a command line has another PID namespace, or, in the
host's, is ended in the other's place.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crid.lifecycle.check.facts import Kind, Trace
from crid.linux import process
from crid.model import ids

EXEC_PATIENCE = 1.0
"""Seconds that one look at all processes may wait for those that are just executing their program, which takes microseconds
unless the CPUs are busy. A program may also have wiped its command line out: it must not hold a start up."""
_PAUSE = 0.001


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs that a daemon runs."""

    monitors: frozenset[str]
    runtime_roots: frozenset[str]
    """The values of `--root` in its calls of runtimes, as far as nobody else uses these directories."""
    helpers: frozenset[str]
    """crid's own programs, which name files of a pod."""
    plugin_directories: frozenset[str] = frozenset()
    """Where CNI plugins are; one that runs for a pod has the pod's namespace in its environment."""
    runtimes: frozenset[str] = frozenset()
    """The runtimes' programs, links followed."""


def process_traces(programs: Programs, run_root: Path) -> Iterator[Trace]:
    """Yield the processes that belong to a pod or a container below `run_root`.

    They share the PID namespace of whoever looks. A process in another one is a container's own and may call itself anything.
    """
    ours = _pid_namespace("self")
    deadline = time.monotonic() + EXEC_PATIENCE
    for name in _numbers():
        if words := _command_line(Path("/proc", name), deadline):
            found = classify(words, programs, str(run_root))
            if not found and words[0].rpartition("/")[0] in programs.plugin_directories:
                found = _plugin(_words(f"/proc/{name}/environ"), f"CNI_NETNS={run_root}/pods/")
            identity = process.identify(int(name)) if found and _pid_namespace(name) == ours else None
            if found and identity:
                of, owner, kind = found
                yield Trace(of, owner, kind, f"(process {name})", identity, _parent(int(name)))


def _numbers() -> list[str]:
    with os.scandir("/proc") as entries:
        return [entry.name for entry in entries if entry.name.isdigit()]


def classify(words: Sequence[str], programs: Programs, run_root: str) -> tuple[str, str, Kind] | None:
    """Say whose process has the command line `words`, and what it is; None if it is none of ours."""
    program = words[0]
    if program in programs.monitors or program.rpartition("/")[2] == "conmon":
        return _monitor(words, f"{run_root}/containers/")
    if program in programs.helpers:
        return _owner("pod", words, f"{run_root}/pods/", Kind.COMMAND)
    if len(words) > 3 and words[1] == "--root" and words[2] in programs.runtime_roots:
        return _runtime(words[3:])
    return None


def _monitor(words: Sequence[str], bundles: str) -> tuple[str, str, Kind] | None:
    """A monitor names its bundle, that of a command the pid file in it."""
    kind = Kind.EXEC if "-e" in words else Kind.MONITOR
    return _owner("container", words, bundles, kind)


def _owner(of: str, words: Sequence[str], prefix: str, kind: Kind) -> tuple[str, str, Kind] | None:
    for word in words[1:]:
        if word.startswith(prefix):
            owner = word[len(prefix) :].partition("/")[0]
            if ids.is_id(owner):
                return of, owner, kind
    return None


def _runtime(words: Sequence[str]) -> tuple[str, str, Kind] | None:
    """The daemon's own calls of a runtime. Those of a monitor (`create`, `restore`, `exec --detach`) end with the monitor."""
    verb = next((word for word in words if not word.startswith("-")), "")
    owner = next((word for word in words if ids.is_id(word)), "")
    if not owner or verb in ("create", "restore") or "--detach" in words:
        return None
    return "container", owner, Kind.EXEC if verb == "exec" else Kind.COMMAND


def _plugin(environment: Sequence[str], prefix: str) -> tuple[str, str, Kind] | None:
    return _owner("pod", ("", *environment), prefix, Kind.COMMAND)


def _command_line(process_directory: Path, deadline: float) -> list[str]:
    """Return a process's command line, empty for a kernel thread and for a zombie.

    During execve(2) there is a while in which a process has its new program and no command line yet: that is waited out.
    """
    while not (words := _words(f"{process_directory}/cmdline")) and time.monotonic() < deadline:
        try:
            (process_directory / "exe").readlink()
        except OSError:
            break  # no program: never a command line
        time.sleep(_PAUSE)
    return words


def _words(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


def _pid_namespace(name: str) -> Path | None:
    try:
        return Path(f"/proc/{name}/ns/pid").readlink()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
