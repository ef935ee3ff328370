"""Processes: who they are, whether they live, how to start one and wait for its end without a thread or a fork().

The daemon has gRPC's threads, so no Python may run between fork and exec. `posix_spawn` forks inside libc (a vfork
there), and a pidfd tells the event loop when the child has ended: no SIGCHLD handler, no watcher thread.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crid.log import fields
from crid.model.process import ProcessIdentity

logger = logging.getLogger(__name__)

_REAP_TIMEOUT = 5.0
"""Seconds that a killed process gets to end. One in uninterruptible sleep may take for ever."""
_OUTPUT_CHECK = 0.1
"""Seconds between looks at how much a program with a limit has printed."""


def start_time(pid: int) -> int | None:
    """Return the start time of process `pid` in clock ticks after boot, None if there is none or it is a zombie.

    It is field 22 of /proc/PID/stat, counted after the last `)`: the name in field 2 may itself hold brackets and
    spaces (proc_pid_stat(5)). Of a process whose first thread has ended, and others have not, the kernel says that it is
    a zombie; field 20, the number of threads, tells.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            after_name = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not after_name or (after_name[0] in (b"Z", b"X") and int(after_name[17]) < 2):
        return None
    return int(after_name[19])


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of the living process `pid`, None if there is none."""
    ticks = start_time(pid)
    return None if ticks is None else ProcessIdentity(pid, ticks)


def is_alive(process: ProcessIdentity | None) -> bool:
    """Whether this very process, not another with its number, runs and is no zombie."""
    return process is not None and start_time(process.pid) == process.start_time


def is_in_cgroup(pid: int, word: str) -> bool:
    """Whether a cgroup of the process `pid` has `word` in its path, in any hierarchy (cgroups(7), /proc/PID/cgroup)."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return word in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _open(pid: int) -> int | None:
    """Return a pidfd, None if there is no such process."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        # What older kernels (6.1 for one) say of a number whose process is gone while others still have it as the number
        # of their session or process group.
        if error.errno == errno.EINVAL:
            return None
        raise


def send_signal(process: ProcessIdentity, number: int) -> bool:
    """Signal this very process; return False if it is gone. The pidfd closes the gap between the check and the signal."""
    if (descriptor := _open(process.pid)) is None:
        return False
    try:
        if start_time(process.pid) != process.start_time:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


async def wait_gone(process: ProcessIdentity) -> None:
    """Return once this very process has ended (it may still be a zombie). It need not be a child."""
    if (descriptor := _open(process.pid)) is None:
        return
    try:
        if start_time(process.pid) == process.start_time:
            await _readable(descriptor)
    finally:
        os.close(descriptor)


def watch_end(process: ProcessIdentity, ended: Callable[[], None]) -> Callable[[], None]:
    """Have `ended` called on the event loop once this very process has ended, soon if it has already.

    Returns what ends the watch; harmless afterwards. Raises OSError out of descriptors.
    """
    loop = asyncio.get_running_loop()
    descriptor = _open(process.pid)
    if descriptor is None or start_time(process.pid) != process.start_time:
        if descriptor is not None:
            os.close(descriptor)
        return loop.call_soon(ended).cancel

    def forget() -> None:
        nonlocal descriptor
        if descriptor is not None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            descriptor = None

    def tell() -> None:
        forget()
        ended()

    loop.add_reader(descriptor, tell)
    return forget


async def _readable(descriptor: int) -> None:
    """Return when `descriptor` polls readable; a pidfd does so when its process ends (pidfd_open(2))."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


@dataclass(slots=True)
class Child:
    """A spawned process that is not reaped yet. Its owner must await `wait`, or `kill` and then `wait`."""

    pid: int
    _pidfd: int
    program: str

    @property
    def reaped(self) -> bool:
        """Whether `wait` has returned; the pid may be another process's by now."""
        return self._pidfd < 0

    async def wait(self) -> int:
        """Reap the process and return its exit code, 128 + signal for a signalled one. To be called once, or again after
        a cancelled wait; it can be killed meanwhile."""
        if not (result := os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)):
            await _readable(self._pidfd)
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        descriptor, self._pidfd = self._pidfd, -1
        os.close(descriptor)
        assert result is not None
        return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status

    def end(self) -> None:
        """Kill the process if it runs and reap it. Blocks until it is gone; for threads."""
        self.kill()
        if self._pidfd >= 0:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
            descriptor, self._pidfd = self._pidfd, -1
            os.close(descriptor)

    async def discard(self) -> None:
        """Kill the process and reap it: at once as a rule, and whenever it ends if the kernel does not let it end now."""
        self.kill()
        if self.reaped:
            return
        try:
            async with asyncio.timeout(_REAP_TIMEOUT):
                await self.wait()
        except TimeoutError:
            logger.error("a killed process does not end, and is left%s", fields(pid=self.pid, program=self.program))
            loop = asyncio.get_running_loop()
            loop.add_reader(self._pidfd, self._reap_late, loop)

    def _reap_late(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._pidfd)
        self.end()

    def kill(self) -> None:
        """Send SIGKILL. Harmless once the process has been reaped."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


def spawn(
    argv: Sequence[str],
    *,
    descriptors: Mapping[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
    new_session: bool = False,
    new_process_group: bool = False,
) -> Child:
    """Start `argv` (argv[0] an absolute path) and return at once.

    `descriptors` maps the child's numbers to ours; 0, 1 and 2 are /dev/null where it does not say. Everything else is
    closed in the child, since Python opens files close-on-exec. `environment` empty means none at all; None means ours.
    Signal dispositions and mask are reset. Raises OSError naming the program.
    """
    descriptors = dict(descriptors or {})
    with contextlib.ExitStack() as stack:
        # A source that is itself a target could be overwritten before it is read: park such sources above all targets.
        above = max(descriptors, default=0) + 1
        sources = dict(descriptors)
        for target, source in descriptors.items():
            if source in descriptors and source != target:
                sources[target] = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, above)
                stack.callback(os.close, sources[target])
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, source, target) for target, source in sources.items()
        ]
        # After the duplicates: a source may be our own 0, 1 or 2.
        actions += [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2) if number not in sources]
        try:
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                dict(os.environ if environment is None else environment),
                file_actions=actions,
                setsid=new_session,
                setsigmask=(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
                **({"setpgroup": 0} if new_process_group else {}),  # type: ignore[arg-type]  # no value of it means "do not"
            )
        except OSError as error:
            raise OSError(error.errno, f"posix_spawn: {error.strerror}", argv[0]) from error
    try:
        return Child(pid, os.pidfd_open(pid), argv[0])
    except OSError as error:
        # Out of descriptors. Nobody could wait for this child, so it must not live.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise OSError(error.errno, f"pidfd_open: {error.strerror}", argv[0]) from error


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program that has ended left behind."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def error_text(self) -> str:
        """The program's own words, for an error message: stderr, else stdout, at most 2000 characters."""
        return (self.stderr or self.stdout).decode(errors="replace").strip()[-2000:]


async def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    new_process_group: bool = False,
    output_limit: int | None = None,
) -> Completed:
    """Run a program to its end. Output is collected in anonymous files (memfd), so a grandchild that keeps a descriptor
    open, as a container's process does, cannot hold us up.

    Raises TimeoutError after `timeout` seconds, with the program killed and reaped; OSError if it cannot be started, or
    if it prints more than about `output_limit` bytes. With `new_process_group` its descendants are killed with it.
    """
    with contextlib.ExitStack() as stack:
        files = []
        for name in ("stdin", "stdout", "stderr"):
            files.append(os.memfd_create(name, os.MFD_CLOEXEC))
            stack.callback(os.close, files[-1])
        if stdin:
            os.write(files[0], stdin)
            os.lseek(files[0], 0, os.SEEK_SET)
        child = spawn(argv, descriptors=dict(enumerate(files)), environment=environment, new_process_group=new_process_group)
        try:
            async with asyncio.timeout(timeout):
                exit_code = await _wait_for_quiet(child, files[1:], output_limit)
        except BaseException:
            if new_process_group and not child.reaped:  # its number cannot be another's while it is not reaped
                os.killpg(child.pid, signal.SIGKILL)
            await asyncio.shield(child.discard())
            raise
        return Completed(exit_code, _content(files[1]), _content(files[2]))


async def _wait_for_quiet(child: Child, files: Sequence[int], limit: int | None) -> int:
    """Wait for the process; raise OSError once one of `files` is larger than `limit`, also if it has ended by then."""
    exit_code = None
    while exit_code is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if limit is None else _OUTPUT_CHECK):
                exit_code = await child.wait()
        if limit is not None and any(os.fstat(descriptor).st_size > limit for descriptor in files):
            raise OSError(errno.EFBIG, f"printed more than {limit} bytes", child.program)
    return exit_code


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def find_program(name: str, *, path: str | None = None) -> Path | None:
    """Return the absolute path of the program `name` (kept as it is if it holds a slash), None if it is not executable."""
    directories = ["."] if "/" in name else (path or os.environ.get("PATH", os.defpath)).split(os.pathsep)
    for directory in directories:
        candidate = Path(directory, name).absolute()
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    return None
