"""ExecSync: a command under a conmon of its own, which holds its output and enforces its timeout.

This is the hottest path of a node: kubelet's probes. So it spawns one process and waits for one line, without threads
and without files on a disk: the process object and the log are anonymous memory (memfd_create(2)) that the monitor and
the runtime open through our /proc/PID/fd. Only the pid file has a name, because runc writes it by rename; it lies in the
bundle, which is on a tmpfs.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import os
from collections.abc import Sequence

from crid import trace
from crid.errors import CridError, FailedPreconditionError, UnavailableError
from crid.linux import affinity, process
from crid.log import fields
from crid.model.container import Container
from crid.model.ids import short
from crid.oci import conmon, descendants, descriptors
from crid.oci.executions import Executions
from crid.oci.placement import Placement
from crid.oci.process_spec import ProcessSpecs
from crid.oci.program import RuntimeCommand
from crid.oci.runtime import EXEC_SYNC_OUTPUT_LIMIT, ExecResult
from crid.tasks import Supervisor
from crid.wire import conmon as wire
from crid.wire.conmon_log import join_output

logger = logging.getLogger(__name__)

LOG_LIMIT = 4 * EXEC_SYNC_OUTPUT_LIMIT
"""Bytes of log that the monitor keeps. Each line has some 45 bytes of header, so two full streams need more than twice
the limit; a command that prints many thousands of very short lines is cut earlier."""
IN_PLACE = 256 * 1024
"""Bytes of log up to which parsing on the event loop is faster than a thread."""
OVERTIME = 10.0
"""Seconds after its timeout in which the monitor must have reported; then it is killed."""


class ExecSync:
    """Runs commands to their end and collects their output."""

    def __init__(
        self,
        command: RuntimeCommand,
        specs: ProcessSpecs,
        executions: Executions,
        tasks: Supervisor,
        placement: Placement,
    ) -> None:
        self._command = command
        self._specs = specs
        self._executions = executions
        self._tasks = tasks
        self._placement = placement
        self._number = itertools.count()
        self._environment = {**command.environment, wire.SYNC_PIPE_VARIABLE: str(conmon.SYNC_DESCRIPTOR)}

    async def run(self, container: Container, command: Sequence[str], timeout: float) -> ExecResult:
        """Run `command`; see RuntimeImpl.exec_sync."""
        self._executions.admit(container)
        program = self._command.program
        pid_file = container.metadata.bundle / f"exec-{os.getpid()}-{next(self._number)}.pid"
        try:
            with descriptors.closing() as ours:
                spec = ours.add(os.memfd_create("process.json", os.MFD_CLOEXEC))
                log = ours.add(os.memfd_create("exec.log", os.MFD_CLOEXEC))
                stderr = ours.add(os.memfd_create("conmon-stderr", os.MFD_CLOEXEC))
                sync_read, sync_write = map(ours.add, os.pipe2(os.O_CLOEXEC))
                start = _Start(ours) if self._placement.exec_in_container else None
                os.write(spec, self._specs.encode(container, command, terminal=False))
                cpus = self._specs.cpus(container)
                argv = wire.ConmonExec(
                    conmon=str(program.monitor),
                    container_id=container.id,
                    name=container.metadata.name,
                    runtime=str(program.path),
                    runtime_arguments=(f"--root={program.root}",),
                    process_spec=f"/proc/{os.getpid()}/fd/{spec}",
                    log_path=f"/proc/{os.getpid()}/fd/{log}",
                    container_pidfile=str(pid_file),
                    timeout_seconds=math.ceil(timeout),
                    log_global_size_max=LOG_LIMIT,
                ).argv()
                try:
                    # A session of its own: conmon kills the command's process group at its timeout.
                    child = affinity.within(
                        cpus,
                        lambda: process.spawn(
                            argv,
                            descriptors={2: stderr, conmon.SYNC_DESCRIPTOR: sync_write, **(start.theirs if start else {})},
                            environment={**self._environment, **start.environment} if start else self._environment,
                            new_session=True,
                        ),
                    )
                except OSError as error:
                    raise UnavailableError(f"container {short(container.id)}: monitor {argv[0]}: {error}") from error
                ours.close(sync_write)
                trace.step("exec", "waiting for a command")
                with self._executions.running(container, child):
                    if start:
                        await self._place(container, child, cpus, start)
                    event = await self._report(child, sync_read, timeout)
                return _result(container, event, await _output(log), conmon.words(stderr))
        finally:
            pid_file.unlink(missing_ok=True)

    async def _place(self, container: Container, child: process.Child, cpus: frozenset[int], start: "_Start") -> None:
        """Put the monitor into the container's cgroup, and let it go; it is ended if that cannot be done."""
        try:
            self._placement.place_exec(container, child.pid)
            affinity.restrict(child.pid, cpus)  # the CPUs may be the container's alone: only from in there can they be had
            start.go()
        except BaseException:
            await asyncio.shield(_end(child))
            raise

    async def _report(self, child: process.Child, sync_read: int, timeout: float) -> wire.SyncEvent | None:
        """Return what the monitor reports. It is reaped behind the caller's back: it has nothing more to say."""
        try:
            async with asyncio.timeout(timeout + OVERTIME if timeout else None):
                event = await conmon.first_event(sync_read)
        except TimeoutError:
            logger.warning("a monitor did not report its command's timeout%s", fields(pid=child.pid))
            await asyncio.shield(_end(child))
            return wire.ProcessExited(-1, wire.TIMED_OUT_MESSAGE)
        except BaseException:
            await asyncio.shield(_end(child))
            raise
        self._tasks.start_logged(_reap(child), f"reap monitor {child.pid}")
        return event


class _Start:
    """The pipe on which a monitor waits for a byte before it forks anything; without one it does not wait."""

    def __init__(self, ours: descriptors.Descriptors) -> None:
        theirs, self._end = map(ours.add, os.pipe2(os.O_CLOEXEC))
        self.theirs = {conmon.START_DESCRIPTOR: theirs}
        self.environment = {wire.START_PIPE_VARIABLE: str(conmon.START_DESCRIPTOR)}

    def go(self) -> None:
        """Let the monitor go; one that has ended has said why."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._end, b"\0")


def _result(container: Container, event: wire.SyncEvent | None, output: tuple[bytes, bytes], words: str) -> ExecResult:
    where = f"container {short(container.id)}: exec"
    if not isinstance(event, wire.ProcessExited):
        _refuse_ended(container, where)
        raise UnavailableError(f"{where}: the monitor ended without a report: {words or 'it left no message'}")
    stdout, stderr = output
    if event.timed_out:
        return ExecResult(stdout, stderr + event.message.encode(), -1, timed_out=True)
    if event.exit_code < 0:
        _refuse_ended(container, where)
        raise CridError(f"{where}: {event.message.strip() or words or 'the runtime failed without a message'}")
    return ExecResult(stdout, stderr, event.exit_code)


def _refuse_ended(container: Container, where: str) -> None:
    """Raise FailedPreconditionError if the container has ended, which has ended the command, too."""
    if not process.is_alive(container.status.process):
        raise FailedPreconditionError(f"{where}: the container has ended meanwhile")


async def _output(log: int) -> tuple[bytes, bytes]:
    """Return stdout and stderr out of the log, each cut at its limit."""
    content = os.pread(log, os.fstat(log).st_size, 0)
    joined = join_output(content) if len(content) <= IN_PLACE else await asyncio.to_thread(join_output, content)
    return joined.stdout[:EXEC_SYNC_OUTPUT_LIMIT], joined.stderr[:EXEC_SYNC_OUTPUT_LIMIT]


async def _reap(child: process.Child) -> None:
    """Reap a monitor that has reported."""
    try:
        async with asyncio.timeout(conmon.SETTLE_TIMEOUT):
            await child.wait()
    except TimeoutError:
        await _end(child)


async def _end(child: process.Child) -> None:
    """Kill a monitor with the command below it, and reap it."""
    await descendants.end_below(child.pid, timeout=conmon.SETTLE_TIMEOUT)
    await child.discard()
