"""RuntimeOCI: crun or runc under conmon. Each concern has its own module; this class ties them to the contract."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from crid.errors import FailedPreconditionError
from crid.linux import process
from crid.model.container import Container
from crid.model.ids import short
from crid.model.stats import CgroupStats
from crid.oci import control
from crid.oci.attach import attach
from crid.oci.checkpoint import checkpoint, require_image
from crid.oci.create import Creation
from crid.oci.exec_stream import ExecStream
from crid.oci.exec_sync import ExecSync
from crid.oci.executions import Executions
from crid.oci.placement import Placement, WithDaemon
from crid.oci.port_forward import port_forward
from crid.oci.process_spec import ProcessSpecs
from crid.oci.program import RuntimeCommand, RuntimePaths, RuntimeProgram, environment
from crid.oci.runtime import CheckpointOptions, Created, ExecResult, Observed, RuntimeImpl, Streams
from crid.oci.stop import Stopping
from crid.tasks import KeyedLock, Supervisor


class RuntimeOCI(RuntimeImpl):
    """See RuntimeImpl. Not thread-safe: use it from the event loop's thread."""

    def __init__(
        self,
        program: RuntimeProgram,
        paths: RuntimePaths,
        tasks: Supervisor,
        *,
        read_stats: Callable[[str], CgroupStats],
        remove_cgroup: Callable[[str], Awaitable[None]],
        placement: Placement | None = None,
    ) -> None:
        """`read_stats` reads the accounting of a cgroup as linux.cgroupsPath names it; `placement` says where monitors run, by
        default with the daemon; `remove_cgroup` removes a cgroup that the runtime left behind."""
        placement = placement or WithDaemon()
        self._command = RuntimeCommand(program, environment(os.environ))
        self._read_stats = read_stats
        self._specs = ProcessSpecs()
        self._executions = Executions()
        self._creation = Creation(self._command, paths, placement=placement, remove_cgroup=remove_cgroup)
        self._alone = KeyedLock()
        self._stopping = Stopping(self._command, self._specs, self._executions, tasks, self._alone)
        self._exec_stream = ExecStream(self._command, self._specs, self._executions)
        self._exec_sync = ExecSync(self._command, self._specs, self._executions, tasks, placement)

    @property
    def program(self) -> RuntimeProgram:
        """The runtime that this calls."""
        return self._command.program

    async def create(self, container: Container) -> Created:
        """See RuntimeImpl."""
        self._specs.forget(container.id)
        return await self._creation.create(container)

    async def start(self, container: Container) -> None:
        """See RuntimeImpl."""
        await self._creation.start(container)

    async def exec(self, container: Container, command: Sequence[str], streams: Streams, *, tty: bool) -> int:
        """See RuntimeImpl."""
        return await self._exec_stream.run(container, command, streams, tty=tty)

    async def exec_sync(self, container: Container, command: Sequence[str], timeout: float) -> ExecResult:
        """See RuntimeImpl."""
        return await self._exec_sync.run(container, command, timeout)

    async def stop(self, container: Container, signal: int, timeout: float) -> None:
        """See RuntimeImpl."""
        await self._stopping.stop(container, signal, timeout)

    async def delete(self, container: Container) -> None:
        """See RuntimeImpl."""
        with self._executions.closed(container.id):
            async with self._alone.hold(container.id):
                await self._creation.delete(container)
            self._executions.kill(container.id)
        self._specs.forget(container.id)

    async def update(self, container: Container, resources: Mapping[str, Any]) -> None:
        """See RuntimeImpl."""
        await self._command.check(
            container.id, "update", "--resources", "-", container.id, stdin=json.dumps(resources).encode()
        )

    async def pause(self, container: Container) -> None:
        """See RuntimeImpl."""
        await self._require(container, "running", "pause")
        await self._command.check(container.id, "pause", container.id)

    async def unpause(self, container: Container) -> None:
        """See RuntimeImpl."""
        await self._require(container, "paused", "resume")
        await self._command.check(container.id, "resume", container.id)

    async def _require(self, container: Container, state: str, verb: str) -> None:
        """Raise FailedPreconditionError unless the runtime says that `container` is in `state`."""
        observed = await self._command.state(container.id)
        if observed.state != state:
            raise FailedPreconditionError(f"container {short(container.id)} is {observed.state}, not {state}: cannot {verb} it")

    async def update_status(self, container: Container) -> Observed:
        """See RuntimeImpl."""
        return await self._command.state(container.id)

    def stats(self, container: Container) -> CgroupStats:
        """See RuntimeImpl."""
        return self._read_stats(container.metadata.cgroup_path)

    async def signal(self, container: Container, signal: int) -> None:
        """See RuntimeImpl."""
        if container.status.process is not None:
            process.send_signal(container.status.process, signal)

    async def attach(self, container: Container, streams: Streams) -> None:
        """See RuntimeImpl."""
        await attach(container, streams)

    async def port_forward(self, network_namespace: str, port: int, streams: Streams) -> None:
        """See RuntimeImpl."""
        await port_forward(network_namespace, port, streams)

    async def reopen_log(self, container: Container) -> None:
        """See RuntimeImpl."""
        await control.reopen_log(container)

    async def checkpoint(self, container: Container, options: CheckpointOptions) -> None:
        """See RuntimeImpl."""
        await checkpoint(self._command, container, options)

    async def restore(self, container: Container, options: CheckpointOptions) -> Created:
        """See RuntimeImpl."""
        require_image(container, options.directory)
        self._specs.forget(container.id)
        return await self._creation.create(container, restore_from=options.directory)

    def is_alive(self, container: Container) -> bool:
        """See RuntimeImpl."""
        return process.is_alive(container.status.process)

    def watch_end(self, container: Container, ended: Callable[[], None]) -> Callable[[], None]:
        """See RuntimeImpl."""
        first = container.status.process
        if first is None:
            return asyncio.get_running_loop().call_soon(ended).cancel
        return process.watch_end(first, ended)
