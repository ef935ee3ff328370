"""Creating, starting and deleting a container with an OCI runtime under conmon.

A container that could not be created leaves nothing: the monitor and what is below it are killed first, then the runtime
forgets its half-made state (`delete --force`), then the files go. Only what the attempt itself made is removed; a log
file of an earlier attempt stays.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from crid import trace
from crid.errors import CridError, DeadlineExceededError, FailedPreconditionError, NotFoundError, UnavailableError
from crid.linux import process
from crid.log import fields
from crid.model.container import Container
from crid.model.ids import short
from crid.oci import conmon
from crid.oci.placement import Placement
from crid.oci.program import RuntimeCommand, RuntimePaths
from crid.oci.runtime import Created
from crid.wire.conmon import ConmonCreate

logger = logging.getLogger(__name__)


class Creation:
    """Makes and unmakes the containers of one runtime."""

    def __init__(
        self,
        command: RuntimeCommand,
        paths: RuntimePaths,
        *,
        placement: Placement,
        remove_cgroup: Callable[[str], Awaitable[None]],
    ) -> None:
        self._command = command
        self._paths = paths
        self._placement = placement
        self._remove_cgroup = remove_cgroup

    async def create(self, container: Container, restore_from: Path | None = None) -> Created:
        """Create the container of the written bundle, or with `restore_from` restore it from a checkpoint's image.

        Raises CridError with the runtime's words, DeadlineExceededError, UnavailableError.
        """
        program = self._command.program
        files = conmon.MonitorFiles(container.metadata.bundle)
        had_log = not container.metadata.log_path or Path(container.metadata.log_path).exists()
        files.remove()
        self._forget_exit(container)
        try:
            argv = self._argv(container, files, restore_from)
            async with asyncio.timeout(program.create_timeout):
                environment = {**self._command.environment, **program.monitor_environment}
                pid, monitor = await conmon.launch(
                    argv, files, environment, place=lambda child: self._placement.place_monitor(container, child)
                )
            trace.step("monitor", "identifying the process")
            first = process.identify(pid)
            if first is None:
                raise UnavailableError("its first process ended before it was started")
            if not process.is_in_cgroup(pid, container.id):
                # Whoever it is, it will not be signalled in this container's name.
                raise UnavailableError(f"the runtime reported process {pid}, which is not in the container's cgroup")
            return Created(process=first, monitor=monitor)
        except BaseException as error:
            await asyncio.shield(self._undo(container, files, remove_log=not had_log))
            verb = "restore" if restore_from else "create"
            where = f"container {short(container.id)}: {program.name} {verb}"
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(f"{where} did not end within {program.create_timeout:g} s") from error
            if isinstance(error, CridError):
                raise type(error)(f"{where}: {error}") from error
            raise

    def _argv(self, container: Container, files: conmon.MonitorFiles, restore_from: Path | None) -> list[str]:
        metadata, program = container.metadata, self._command.program
        return ConmonCreate(
            conmon=str(program.monitor),
            container_id=metadata.id,
            name=metadata.name,
            bundle=str(metadata.bundle),
            runtime=str(program.path),
            runtime_arguments=(f"--root={program.root}",),
            container_pidfile=str(files.container_pid),
            conmon_pidfile=str(files.monitor_pid),
            exit_dir=str(self._paths.exits),
            persist_dir=str(metadata.persist_directory),
            socket_dir=str(self._paths.attach_sockets),
            log_paths=(metadata.log_path or "none", *(("journald:",) if program.journald else ())),
            terminal=metadata.terminal,
            stdin=metadata.stdin,
            leave_stdin_open=not metadata.config.stdin_once,
            systemd_cgroup=program.systemd_cgroup,
            no_pivot=program.no_pivot,
            sync_log=program.sync_log,
            log_size_max=program.log_size_max if program.log_size_max >= 0 else None,
            restore=str(restore_from) if restore_from else None,
        ).argv()

    async def start(self, container: Container) -> None:
        """Let the created process run. Raises FailedPreconditionError if it is not waiting for that."""
        done = await self._command.call(container.id, "start", container.id)
        if not done.exit_code:
            return
        failure = self._command.failure(container.id, "start", done)
        observed = await self._command.state(container.id)
        if observed.state != "created":
            raise FailedPreconditionError(f"{failure} (it is {observed.state})")
        raise failure

    async def delete(self, container: Container) -> None:
        """Kill whatever still runs and forget the container; one that is already forgotten is no error."""
        done = await self._command.call(container.id, "delete", "--force", container.id)
        if done.exit_code:
            try:
                await self._command.state(container.id)
            except NotFoundError:
                pass
            else:
                raise self._command.failure(container.id, "delete", done)
        await self._end_monitor(container)
        try:
            await self._placement.remove(container)
            if container.metadata.cgroup_path:  # one without a record has none
                await self._remove_cgroup(container.metadata.cgroup_path)
        except OSError as error:
            raise CridError(f"container {short(container.id)}: its cgroup cannot be removed: {error}") from error
        (self._paths.attach_sockets / container.id).unlink(missing_ok=True)

    async def _end_monitor(self, container: Container) -> None:
        """Wait for the monitor, which ends by itself after its container; one that does not is killed."""
        monitor = container.status.monitor
        if not process.is_alive(monitor):
            return
        assert monitor is not None
        try:
            async with asyncio.timeout(conmon.SETTLE_TIMEOUT):
                await process.wait_gone(monitor)
        except TimeoutError:
            logger.warning("killing a monitor that outlived its container%s", fields(container=container.id, pid=monitor.pid))
            process.send_signal(monitor, conmon.SIGKILL)
            with contextlib.suppress(TimeoutError):  # the kernel has it
                async with asyncio.timeout(conmon.SETTLE_TIMEOUT):
                    await process.wait_gone(monitor)

    async def _undo(self, container: Container, files: conmon.MonitorFiles, *, remove_log: bool) -> None:
        """Remove what a failed creation left; what cannot be removed is logged, the creation's own error is the one to see."""
        undoing: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: conmon.end_monitor(files),  # it may watch a process that is not the container's
            lambda: self._command.call(container.id, "delete", "--force", container.id),
            lambda: self._placement.remove(container),
            lambda: self._remove_cgroup(container.metadata.cgroup_path),
        )
        for undo in undoing:  # nobody comes back for what a runtime that hangs has made
            try:
                await undo()
            except (CridError, OSError):
                logger.exception("a failed creation could not be undone%s", fields(container=container.id))
        files.remove()
        self._forget_exit(container)
        (self._paths.attach_sockets / container.id).unlink(missing_ok=True)
        if remove_log:
            Path(container.metadata.log_path).unlink(missing_ok=True)

    def _forget_exit(self, container: Container) -> None:
        """Remove exit records, lest an earlier attempt's be taken for this one's."""
        for path in (
            self._paths.exits / container.id,
            container.metadata.persist_directory / "exit",
            container.metadata.persist_directory / "oom",
        ):
            path.unlink(missing_ok=True)
