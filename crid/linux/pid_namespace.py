"""The PID namespace that a pod's containers share, and the process that is its pid 1.

Other namespaces live by a bind mount alone (crid.linux.namespaces). A PID namespace also needs an init: once its pid 1 has
ended the kernel kills what else is in it and lets nobody in (pid_namespaces(7)). That init is `crid-pause`
(conmon/pause.c says how it is confined). It is no child of the daemon and outlives it, so all that is remembered of it
is a ProcessIdentity. It may live only once its pid stands in a file, so a daemon that dies before it has remembered
anything leaves no process that the next one could not find.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from crid.errors import DeadlineExceededError, NotFoundError, UnavailableError
from crid.linux import selinux
from crid.linux.process import Child, identify, is_alive, send_signal, spawn, wait_gone
from crid.model.process import ProcessIdentity
from crid.model.sandbox import NamespacePaths

START_TIMEOUT = 30.0
"""Seconds in which `crid-pause` must have reported; it takes milliseconds, if the machine does not stand still."""
STOP_TIMEOUT = 10.0
"""Seconds in which a killed pid 1 must be gone. The kernel ends the namespace's other processes before, and waits for
those whose parents are outside of it to be reaped there."""

_READY_FD = 3


async def start_pause(
    program: Path,
    report: Path,
    *,
    namespaces: NamespacePaths,
    user: str = "",
    cgroup_procs: Sequence[str] = (),
    process_label: str = "",
    mount_label: str = "",
) -> ProcessIdentity:
    """Start `program` (crid-pause) as pid 1 of a new PID namespace and return who it is, as the host numbers it.

    `report` is the file, which is made, in which the program says so; `reported` reads it. The process enters `namespaces`,
    and the user namespace at `user`, which then owns the PID namespace; an empty path means the host's. `cgroup_procs`
    are cgroup.procs files, one for each hierarchy: it enters these cgroups before the namespace is made, so no process
    of the pod is ever outside of them. The labels are SELinux's, of the process and of its empty root file system; empty
    ones leave them to the policy.

    Raises UnavailableError with the program's own words, DeadlineExceededError after START_TIMEOUT, OSError if the program
    cannot be started. No process is left then, nor after a cancellation.
    """
    options = [("--cgroup-procs", path) for path in cgroup_procs]
    options += [("--net", namespaces.net), ("--ipc", namespaces.ipc), ("--uts", namespaces.uts), ("--user", user)]
    options += [("--process-label", process_label), ("--mount-label", mount_label)]
    argv = [str(program), "--ready-fd", str(_READY_FD), *(word for pair in options if pair[1] for word in pair)]

    descriptor = os.open(report, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if mount_label:  # the program reports last, when it has the pod's label and may write to the pod's files only
            selinux.set_label(str(report), mount_label)
        child = spawn(argv, descriptors={_READY_FD: descriptor}, environment={})
        try:
            async with asyncio.timeout(START_TIMEOUT):
                exit_code = await child.wait()
        except BaseException as error:
            await _abandon(child, report)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(f"{program.name} did not report within {START_TIMEOUT:g} s") from error
            raise
    finally:
        os.close(descriptor)

    process = reported(report) if exit_code == 0 else None
    if process is None:
        words = _words(report).removeprefix("error: ")
        raise UnavailableError(f"{program.name} made no PID namespace (exit code {exit_code}): {words or 'no reason given'}")
    return process


def reported(report: Path) -> ProcessIdentity | None:
    """Return the pause process that the file `report` of this boot names, None if it has ended or there is no such file.

    Whoever has got its number since is not pid 1 of a PID namespace and called as it is. Raises OSError.
    """
    if not (words := _words(report)).isdigit() or (process := identify(int(words))) is None:
        return None
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    numbers = values.get("NSpid", "").split()
    return process if values.get("Name") == "pause" and len(numbers) > 1 and numbers[-1] == "1" else None


def pid_namespace_path(process: ProcessIdentity) -> str:
    """Return the path of the PID namespace that `process` is in, good as long as that lives.

    Raises NotFoundError if it has ended: the number may by now be another process, whose namespace must not be joined.
    """
    if not is_alive(process):
        raise NotFoundError(f"process {process.pid}, pid 1 of the pod's PID namespace, has ended")
    return f"/proc/{process.pid}/ns/pid"


async def stop_pause(process: ProcessIdentity) -> None:
    """Kill `process`, and thereby all of its PID namespace, and return once it is gone. Idempotent.

    Raises DeadlineExceededError after STOP_TIMEOUT.
    """
    send_signal(process, signal.SIGKILL)
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await wait_gone(process)
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"process {process.pid}, pid 1 of the pod's PID namespace, did not end within {STOP_TIMEOUT:g} s of SIGKILL"
        ) from error


def _words(report: Path) -> str:
    """Return what the program has reported so far, nothing if the file is not there."""
    try:
        return report.read_text(errors="replace").strip()
    except FileNotFoundError:
        return ""


async def _abandon(child: Child, report: Path) -> None:
    """Leave no process of an attempt that was broken off: neither the program nor the pid 1 that it may have reported."""
    await asyncio.shield(child.discard())
    if (process := reported(report)) is not None:
        send_signal(process, signal.SIGKILL)
