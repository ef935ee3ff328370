"""The daemon's side of starting a monitor: spawn conmon, place it, let it go, hear from it.

Order matters. conmon waits for a byte on the start pipe before it forks anything, so everything it will start inherits
the cgroup it was moved to before that byte. The process that we spawn forks the monitor, writes its pid file and ends;
we reap it. The monitor then reports one line on the sync pipe: the container's pid, or what the runtime had to say.

The command line is built in `crid.wire.conmon`. This module knows neither containers' states nor what is done with the
pids it returns.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crid import trace
from crid.errors import CridError, UnavailableError
from crid.linux import process
from crid.linux.detached import open_private_null
from crid.model.process import ProcessIdentity
from crid.oci import descendants, descriptors
from crid.wire import conmon as wire

SYNC_DESCRIPTOR = 3
START_DESCRIPTOR = 4
SIGKILL = 9
SETTLE_TIMEOUT = 2.0
"""Seconds that a spawned conmon gets to finish forking after something failed, so that its pid file names what to kill."""


@dataclass(frozen=True, slots=True)
class MonitorFiles:
    """The files below a bundle that a monitor writes; the names are those CRI-O uses."""

    bundle: Path

    @property
    def container_pid(self) -> Path:
        """The container's first pid, written by the runtime."""
        return self.bundle / "pidfile"

    @property
    def monitor_pid(self) -> Path:
        """The monitor's own pid."""
        return self.bundle / "conmon-pidfile"

    @property
    def control(self) -> Path:
        """The fifo that takes control messages."""
        return self.bundle / "ctl"

    @property
    def attach(self) -> Path:
        """The attach socket."""
        return self.bundle / "attach"

    def remove(self) -> None:
        """Remove what an earlier monitor left, so that nothing stale can be taken for the new one's."""
        for path in (
            self.container_pid,
            self.monitor_pid,
            self.control,
            self.attach,
            self.bundle / "winsz",
            self.bundle / "oom",
        ):
            path.unlink(missing_ok=True)


async def launch(
    argv: Sequence[str],
    files: MonitorFiles,
    environment: Mapping[str, str],
    *,
    place: Callable[[int], Awaitable[None]],
) -> tuple[int, ProcessIdentity]:
    """Start a monitor, and return the container's pid and the monitor's identity.

    `place` moves the process it is given into a cgroup; it is called before the monitor does anything. Raises CridError
    with the runtime's words if it failed, UnavailableError if the monitor could not be run or died. If this fails or is
    cancelled, neither the spawned process nor the monitor nor a runtime below it is left; the container may be.
    """
    with descriptors.closing() as ours:
        # crun before 1.9 gives a container's stdin to the root of its user namespace, which must not own the host's /dev/null.
        null = ours.add(open_private_null())
        stderr = ours.add(os.memfd_create("conmon-stderr", os.MFD_CLOEXEC))
        sync_read, sync_write = map(ours.add, os.pipe2(os.O_CLOEXEC))
        start_read, start_write = map(ours.add, os.pipe2(os.O_CLOEXEC))
        try:
            child = process.spawn(
                argv,
                descriptors={0: null, 2: stderr, SYNC_DESCRIPTOR: sync_write, START_DESCRIPTOR: start_read},
                environment={**environment, **wire.pipe_environment(sync_fd=SYNC_DESCRIPTOR, start_fd=START_DESCRIPTOR)},
                new_process_group=True,
            )
        except OSError as error:
            raise UnavailableError(f"monitor {argv[0]}: {error}") from error
        ours.close(sync_write, start_read)
        started = False
        try:
            trace.step("monitor", "being placed")
            await place(child.pid)
            with contextlib.suppress(BrokenPipeError):  # it has ended already; what it said is read below
                os.write(start_write, b"\0")
            started = True
            trace.step("monitor", "starting the runtime")
            await child.wait()
            trace.step("monitor", "reading its report")
            return _created(await first_event(sync_read), files, words(stderr))
        except BaseException:
            # Before the start pipe is closed: conmon takes its end for the start byte.
            await asyncio.shield(_abandon(child, files, started=started))
            raise


async def first_event(sync_read: int) -> wire.SyncEvent | None:
    """Return the first thing that a monitor says on its sync pipe, None if it ended without a word.

    Raises ConmonProtocolError.
    """
    pipe = wire.SyncPipe()
    while chunk := await descriptors.read(sync_read, wire.MAX_SYNC_LINE):
        for event in pipe.feed(chunk):
            return event
    pipe.finish()
    return None


def _created(event: wire.SyncEvent | None, files: MonitorFiles, said: str) -> tuple[int, ProcessIdentity]:
    """Turn the monitor's report into the two processes, or into the error that it is."""
    if isinstance(event, wire.StartFailed):
        raise CridError(event.message.strip() or said or "the runtime failed without a message")
    if not isinstance(event, wire.ProcessStarted):
        raise UnavailableError(f"the monitor ended without a report: {said or 'it left no message'}")
    monitor = read_identity(files.monitor_pid)
    if monitor is None:
        raise UnavailableError(f"the monitor is gone: {said or 'it left no message'}")
    return event.pid, monitor


def words(stderr: int) -> str:
    """Return what was written to the memfd `stderr`, for an error message."""
    return os.pread(stderr, 4096, 0).decode(errors="replace").strip()


def read_identity(pid_file: Path) -> ProcessIdentity | None:
    """Return who the pid file names, None if there is no file, no number in it or no such process."""
    try:
        return process.identify(int(pid_file.read_text()))
    except (OSError, ValueError):
        return None


async def _abandon(child: process.Child, files: MonitorFiles, *, started: bool) -> None:
    """End a monitor in whatever state it is, with everything below it, and reap what is ours.

    Once it has had its byte, the spawned process is given time to fork and write the pid file: killed between the two it
    would leave a monitor that nobody can name.
    """
    if not child.reaped:
        await _reap(child, SETTLE_TIMEOUT if started else 0)
    await end_monitor(files)


async def end_monitor(files: MonitorFiles) -> None:
    """Kill the monitor that `files` names, with everything below it. Does nothing if there is none."""
    if (monitor := read_identity(files.monitor_pid)) is not None:
        await descendants.end_below(monitor.pid, timeout=SETTLE_TIMEOUT)
        process.send_signal(monitor, SIGKILL)
        with contextlib.suppress(TimeoutError):  # the kernel has it
            async with asyncio.timeout(SETTLE_TIMEOUT):
                await process.wait_gone(monitor)


async def _reap(child: process.Child, grace: float) -> None:
    try:
        async with asyncio.timeout(grace):
            await child.wait()
    except TimeoutError:
        await child.discard()
