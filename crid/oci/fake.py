"""FakeRuntime: a runtime whose containers live in memory, for tests of what is above. It passes the contract suite.

A process is a coroutine out of `programs`, looked up by the last part of its first argument: the container's in the
bundle's config.json, a command's in the request. Signals other than SIGKILL end it unless it asks for them.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from crid.errors import CridError, FailedPreconditionError, NotFoundError, UnavailableError
from crid.model.container import Container
from crid.model.ids import short
from crid.model.process import ProcessIdentity
from crid.model.stats import CgroupStats, CpuStats, MemoryStats
from crid.oci.checkpoint import INVENTORY, require_image
from crid.oci.exits import Exit
from crid.oci.runtime import (
    EXEC_SYNC_OUTPUT_LIMIT,
    CheckpointOptions,
    Created,
    ExecResult,
    Observed,
    RuntimeImpl,
    Streams,
)
from crid.tasks import Supervisor

SIGKILL = 9
FIRST_PID = 1 << 23
"""Above what kernel.pid_max allows, so that a fake pid never names a real process."""


@dataclass(slots=True)
class FakeProcess:
    """A running program: its arguments, its streams and the signals that it takes."""

    arguments: Sequence[str]
    streams: Streams
    handles_signals: bool = False
    signals: "asyncio.Queue[int]" = field(default_factory=asyncio.Queue)

    async def write(self, data: bytes) -> None:
        """Write to stdout."""
        if self.streams.stdout is not None:
            await self.streams.stdout(data)


Program = Callable[[FakeProcess], Awaitable[int]]


async def _echo(process: FakeProcess) -> int:
    words = list(process.arguments[1:])
    newline = "" if words[:1] == ["-n"] else "\n"
    await process.write((" ".join(words[1:] if not newline else words) + newline).encode())
    return 0


async def _cat(process: FakeProcess) -> int:
    if process.streams.stdin is not None:
        async for data in process.streams.stdin:
            await process.write(data)
    return 0


async def _sleep(process: FakeProcess) -> int:
    await asyncio.sleep(float(process.arguments[1]))
    return 0


async def _stubborn(process: FakeProcess) -> int:
    process.handles_signals = True
    await asyncio.Event().wait()
    return 0


async def _obedient(process: FakeProcess) -> int:
    process.handles_signals = True
    await process.signals.get()
    return 7


async def _status(code: int) -> int:
    return code


PROGRAMS: Mapping[str, Program] = {
    "echo": _echo,
    "cat": _cat,
    "sleep": _sleep,
    "stubborn": _stubborn,  # ignores every signal but SIGKILL
    "obedient": _obedient,  # ends with exit code 7 at the first signal
    "true": lambda process: _status(0),
    "false": lambda process: _status(1),
}


@dataclass(slots=True)
class _Kept:
    """One container. Its state is what the runtime-spec calls it."""

    identity: ProcessIdentity
    program: Program
    process: FakeProcess
    state: str = "created"
    task: "asyncio.Task[int] | None" = None
    commands: set["asyncio.Task[int]"] = field(default_factory=set)
    readers: list[Streams] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    resources: dict[str, Any] = field(default_factory=dict)
    deadline: float = float("inf")
    stop: "asyncio.Task[None] | None" = None
    stoppers: int = 0


class FakeRuntime(RuntimeImpl):
    """See RuntimeImpl."""

    def __init__(self, tasks: Supervisor, programs: Mapping[str, Program] = PROGRAMS) -> None:
        self._tasks = tasks
        self._programs = programs
        self._containers: dict[str, _Kept] = {}
        self._pids = itertools.count(FIRST_PID)
        self._exits: asyncio.Queue[Exit] = asyncio.Queue()

    async def exits(self) -> AsyncIterator[Exit]:
        """Yield the end of each container, as `crid.oci.exits.Exits` does; never ends."""
        while True:
            yield await self._exits.get()

    def _kept(self, container: Container) -> _Kept:
        if (kept := self._containers.get(container.id)) is None:
            raise NotFoundError(f"container {short(container.id)}: the fake runtime does not know it")
        return kept

    def _running(self, container: Container) -> _Kept:
        kept = self._containers.get(container.id)
        if kept is None or kept.state not in ("running", "paused", "created"):
            raise FailedPreconditionError(f"container {short(container.id)} is not running")
        return kept

    def _program(self, container: Container, arguments: Sequence[str]) -> Program:
        if (program := self._programs.get(PurePath(arguments[0]).name)) is None:
            raise CridError(f"container {short(container.id)}: executable file {arguments[0]!r} not found")
        return program

    async def create(self, container: Container) -> Created:
        """See RuntimeImpl."""
        arguments = json.loads((container.metadata.bundle / "config.json").read_bytes())["process"]["args"]
        if container.id in self._containers:
            raise CridError(f"container {short(container.id)}: it exists")
        program = self._program(container, arguments)
        identity, monitor = ProcessIdentity(next(self._pids), 1), ProcessIdentity(next(self._pids), 1)
        kept = _Kept(identity, program, FakeProcess(arguments, Streams(stdout=lambda data: self._spread(container, data))))
        self._containers[container.id] = kept
        if container.metadata.log_path:
            Path(container.metadata.log_path).touch()
        return Created(process=identity, monitor=monitor)

    async def _spread(self, container: Container, data: bytes) -> None:
        for streams in tuple(self._kept(container).readers):
            if streams.stdout is not None:
                await streams.stdout(data)

    async def start(self, container: Container) -> None:
        """See RuntimeImpl."""
        kept = self._kept(container)
        if kept.state != "created":
            raise FailedPreconditionError(f"container {short(container.id)} is {kept.state}")
        kept.state = "running"
        kept.task = self._tasks.start(_run(kept.program, kept.process), f"fake container {short(container.id)}")
        kept.task.add_done_callback(
            lambda task: self._end(container, kept, 128 + SIGKILL if task.cancelled() else task.result())
        )

    def _end(self, container: Container, kept: _Kept, exit_code: int) -> None:
        if kept.state == "stopped":
            return
        kept.state = "stopped"
        for command in tuple(kept.commands):
            command.cancel()
        self._exits.put_nowait(Exit(container.id, exit_code, time.time_ns()))
        kept.ended.set()

    async def exec(self, container: Container, command: Sequence[str], streams: Streams, *, tty: bool) -> int:
        """See RuntimeImpl."""
        kept = self._running(container)
        try:
            program = self._program(container, command)
        except CridError as error:
            if streams.stderr is not None:
                await streams.stderr(f"{error}\n".encode())
            return 127
        task = self._tasks.start(_run(program, FakeProcess(command, streams)), f"fake command {command[0]}")
        kept.commands.add(task)
        try:
            await asyncio.wait((task,))
            return 128 + SIGKILL if task.cancelled() else task.result()
        finally:
            task.cancel()
            kept.commands.discard(task)

    async def exec_sync(self, container: Container, command: Sequence[str], timeout: float) -> ExecResult:
        """See RuntimeImpl."""
        self._running(container)
        self._program(container, command)
        output = {"stdout": bytearray(), "stderr": bytearray()}

        def sink(name: str) -> Callable[[bytes], Awaitable[None]]:
            async def take(data: bytes) -> None:
                output[name] += data[: EXEC_SYNC_OUTPUT_LIMIT - len(output[name])]

            return take

        try:
            async with asyncio.timeout(timeout or None):
                code = await self.exec(container, command, Streams(stdout=sink("stdout"), stderr=sink("stderr")), tty=False)
        except TimeoutError:
            return ExecResult(bytes(output["stdout"]), bytes(output["stderr"]) + b"command timed out", -1, timed_out=True)
        return ExecResult(bytes(output["stdout"]), bytes(output["stderr"]), code)

    async def update(self, container: Container, resources: Mapping[str, Any]) -> None:
        """See RuntimeImpl."""
        if not isinstance(resources, Mapping):
            raise CridError(f"container {short(container.id)}: resources are no object")
        self._kept(container).resources.update(resources)

    async def stop(self, container: Container, signal: int, timeout: float) -> None:
        """See RuntimeImpl."""
        kept = self._containers.get(container.id)
        if kept is None or kept.state == "stopped":
            return
        kept.deadline = min(kept.deadline, asyncio.get_running_loop().time() + timeout)
        if kept.stop is None:
            kept.stop = self._tasks.start(self._stop(container, kept, signal, timeout), f"fake stop {short(container.id)}")
        kept.stoppers += 1
        try:
            await asyncio.shield(kept.stop)
        finally:
            kept.stoppers -= 1
            if not kept.stoppers and not kept.ended.is_set():
                kept.stop.cancel()
                kept.stop, kept.deadline = None, float("inf")

    async def _stop(self, container: Container, kept: _Kept, signal: int, timeout: float) -> None:
        if timeout > 0:
            await self.signal(container, signal)
        while (left := kept.deadline - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.01)):
                    await kept.ended.wait()
                    return
        await self.signal(container, SIGKILL)
        await kept.ended.wait()

    async def delete(self, container: Container) -> None:
        """See RuntimeImpl."""
        await self.signal(container, SIGKILL)
        if (kept := self._containers.pop(container.id, None)) is not None and kept.task is not None:
            await kept.ended.wait()

    async def update_status(self, container: Container) -> Observed:
        """See RuntimeImpl."""
        kept = self._kept(container)
        return Observed(kept.state, 0 if kept.state == "stopped" else kept.identity.pid)

    async def pause(self, container: Container) -> None:
        """See RuntimeImpl."""
        self._move(container, "running", "paused")

    async def unpause(self, container: Container) -> None:
        """See RuntimeImpl."""
        self._move(container, "paused", "running")

    def _move(self, container: Container, before: str, after: str) -> None:
        kept = self._kept(container)
        if kept.state != before:
            raise FailedPreconditionError(f"container {short(container.id)} is {kept.state}, not {before}")
        kept.state = after

    def stats(self, container: Container) -> CgroupStats:
        """See RuntimeImpl."""
        self._kept(container)
        return CgroupStats(
            time.time_ns(), cpu=CpuStats(usage=1_000_000), memory=MemoryStats(usage=4096, working_set=4096), pids=1
        )

    async def signal(self, container: Container, signal: int) -> None:
        """See RuntimeImpl."""
        kept = self._containers.get(container.id)
        if kept is None or kept.state == "stopped":
            return
        if signal != SIGKILL and kept.process.handles_signals:
            kept.process.signals.put_nowait(signal)
        elif kept.task is not None:
            kept.task.cancel()
        else:
            self._end(container, kept, 128 + signal)

    async def attach(self, container: Container, streams: Streams) -> None:
        """See RuntimeImpl."""
        kept = self._running(container)
        kept.readers.append(streams)
        try:
            await kept.ended.wait()
        finally:
            kept.readers.remove(streams)

    async def port_forward(self, network_namespace: str, port: int, streams: Streams) -> None:
        """See RuntimeImpl: nothing listens in memory."""
        raise UnavailableError(f"port {port}: nothing listens in a fake network namespace")

    async def reopen_log(self, container: Container) -> None:
        """See RuntimeImpl."""
        self._running(container)
        Path(container.metadata.log_path).touch()

    async def checkpoint(self, container: Container, options: CheckpointOptions) -> None:
        """See RuntimeImpl."""
        self._running(container)
        options.directory.mkdir(parents=True, exist_ok=True)
        (options.directory / INVENTORY).touch()
        if not options.leave_running:
            await self.stop(container, SIGKILL, 0)

    async def restore(self, container: Container, options: CheckpointOptions) -> Created:
        """See RuntimeImpl."""
        require_image(container, options.directory)
        created = await self.create(container)
        await self.start(container)
        return created

    def is_alive(self, container: Container) -> bool:
        """See RuntimeImpl."""
        kept = self._containers.get(container.id)
        return kept is not None and kept.state != "stopped" and container.status.process == kept.identity

    def watch_end(self, container: Container, ended: Callable[[], None]) -> Callable[[], None]:
        """See RuntimeImpl."""
        kept = self._containers.get(container.id)
        if kept is None or not self.is_alive(container):
            return asyncio.get_running_loop().call_soon(ended).cancel
        task = self._tasks.start(_after(kept.ended, ended), f"watch of {short(container.id)}")

        def forget() -> None:
            task.cancel()

        return forget


async def _after(event: asyncio.Event, ended: Callable[[], None]) -> None:
    await event.wait()
    ended()


async def _run(program: Program, process: FakeProcess) -> int:
    return await program(process)
