"""Exec with a client on the line: the runtime is our child and the command's stdio is ours to carry.

Without a terminal each stream is a true pipe, never a socket, so that the command may open /dev/stdin and its friends
whatever its user. With one, the runtime gets our pty and relays between it and the pty that it makes in the container;
ours is raw from the start, since bytes typed before the runtime has set it would otherwise be echoed and changed.

The command's end is the runtime's end. What it wrote by then is in the pipe and is delivered, however slow the client;
a grandchild that keeps the pipe open is not waited for. If we are cancelled or the client is gone, what runs below the
runtime is killed, and the runtime ends with it.
"""

import asyncio
import contextlib
import os
import tty as terminals
from collections.abc import AsyncIterator, Awaitable, Sequence

from crid import trace
from crid.errors import UnavailableError
from crid.linux import affinity, process
from crid.linux.tty import set_window_size
from crid.model.container import Container
from crid.model.ids import short
from crid.oci import descendants, descriptors
from crid.oci.executions import Executions
from crid.oci.inner_terminal import resize_below
from crid.oci.process_spec import ProcessSpecs
from crid.oci.program import RuntimeCommand
from crid.oci.runtime import Streams

END_TIMEOUT = 2.0
"""Seconds in which a runtime must end after what runs below it was killed; then it is killed itself."""
POLL = 0.01
POLLS = 200
"""Seconds between looks for a command that the runtime is about to start, and how often we look."""


class ExecStream:
    """Runs commands with streams."""

    def __init__(self, command: RuntimeCommand, specs: ProcessSpecs, executions: Executions) -> None:
        self._command = command
        self._specs = specs
        self._executions = executions

    async def run(self, container: Container, command: Sequence[str], streams: Streams, *, tty: bool) -> int:
        """Run `command`; see RuntimeImpl.exec."""
        self._executions.admit(container)
        with descriptors.closing() as ours:
            spec = ours.add(os.memfd_create("process.json", os.MFD_CLOEXEC))
            os.write(spec, self._specs.encode(container, command, terminal=tty))
            argv = self._command.argv("exec", "--process", f"/proc/{os.getpid()}/fd/{spec}", container.id)
            stdio = _Terminal(ours, streams) if tty else _Pipes(ours, streams)
            try:
                child = affinity.within(
                    self._specs.cpus(container),
                    lambda: process.spawn(
                        argv, descriptors=stdio.theirs, environment=self._command.environment, new_process_group=True
                    ),
                )
            except OSError as error:
                raise UnavailableError(f"container {short(container.id)}: runtime {argv[0]}: {error}") from error
            ours.close(*stdio.theirs.values())
            trace.step("exec", "carrying its streams")
            try:
                with self._executions.running(container, child):
                    return await _relay(child, stdio)
            except BaseException as error:
                await asyncio.shield(_end(child))
                raise (error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error) from None


class _Pipes:
    """Stdio without a terminal. `theirs` are the child's ends by number, to be closed once it runs."""

    def __init__(self, ours: descriptors.Descriptors, streams: Streams) -> None:
        self.theirs: dict[int, int] = {}
        self._ours = ours
        self._streams = streams
        self._input = self._output = self._error = -1
        if streams.stdin is not None:
            self.theirs[0], self._input = self._pipe()
        if streams.stdout is not None:
            self._output, self.theirs[1] = self._pipe()
        if streams.stderr is not None:
            self._error, self.theirs[2] = self._pipe()
        for number, descriptor in self.theirs.items():
            os.set_blocking((self._input, self._output, self._error)[number], False)
            os.fchmod(descriptor, 0o666)  # any user of the container may open /proc/self/fd/0

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        return self._ours.add(read), self._ours.add(write)

    def inward(self, child: process.Child) -> list[Awaitable[None]]:
        """Return what carries the client's input, for as long as the child runs."""
        return [self._feed(self._streams.stdin)] if self._streams.stdin is not None else []

    def outward(self, ended: asyncio.Event) -> list[Awaitable[None]]:
        """Return what carries the child's output, until there is no more."""
        sinks = ((self._output, self._streams.stdout), (self._error, self._streams.stderr))
        return [descriptors.drain(descriptor, sink, ended) for descriptor, sink in sinks if sink is not None]

    async def _feed(self, stdin: AsyncIterator[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the command closed its stdin; that is its right
            async for data in stdin:
                await descriptors.write_all(self._input, data)
        self._ours.close(self._input)


class _Terminal:
    """Stdio through a pty."""

    def __init__(self, ours: descriptors.Descriptors, streams: Streams) -> None:
        master, slave = os.openpty()
        self._master = ours.add(master)
        ours.add(slave)
        self._outer = os.fstat(slave)
        terminals.setraw(slave)
        os.set_blocking(master, False)
        self.theirs = {0: slave, 1: slave, 2: slave}
        self._streams = streams

    def inward(self, child: process.Child) -> list[Awaitable[None]]:
        """Return what carries the client's input and window sizes, for as long as the child runs."""
        work: list[Awaitable[None]] = []
        if self._streams.stdin is not None:
            work.append(self._feed(self._streams.stdin))
        if self._streams.resize is not None:
            work.append(self._resize(self._streams.resize, child))
        return work

    def outward(self, ended: asyncio.Event) -> list[Awaitable[None]]:
        """Return what carries the terminal's output, until there is no more."""
        return [descriptors.drain(self._master, self._streams.stdout or _discard, ended)]

    async def _feed(self, stdin: AsyncIterator[bytes]) -> None:
        with contextlib.suppress(OSError):  # EIO: the runtime has closed the terminal
            async for data in stdin:
                await descriptors.write_all(self._master, data)

    async def _resize(self, sizes: AsyncIterator[tuple[int, int]], child: process.Child) -> None:
        async for width, height in sizes:
            if width > 0 and height > 0:
                set_window_size(self._master, rows=height, columns=width)  # a runtime that starts now takes it from here
                for _ in range(POLLS):
                    if resize_below(child.pid, self._outer, width, height):
                        break
                    await asyncio.sleep(POLL)


async def _discard(data: bytes) -> None:
    """Take output that nobody asked for."""


async def _relay(child: process.Child, stdio: _Pipes | _Terminal) -> int:
    """Carry the streams until the child has ended, and its output to the end; return its exit code."""
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        inward = [group.create_task(_await(work)) for work in stdio.inward(child)]
        for work in stdio.outward(ended):
            group.create_task(_await(work))
        exit_code = await child.wait()
        ended.set()
        for task in inward:
            task.cancel()
    return exit_code


async def _await(work: Awaitable[None]) -> None:
    await work


async def _end(child: process.Child) -> None:
    """Kill what runs below the runtime, and reap it."""
    if child.reaped:
        return
    await descendants.end_below(child.pid, timeout=END_TIMEOUT)
    try:
        async with asyncio.timeout(END_TIMEOUT):
            await child.wait()
    except TimeoutError:
        await child.discard()
