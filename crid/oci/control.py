"""Telling a monitor something: its control fifo, for terminal sizes and log files.

The fifo never blocks us: without a monitor behind it, opening it fails (ENXIO, fifo(7)), and a line is shorter than
PIPE_BUF, so it arrives whole or not at all.
"""

import asyncio
import os
from pathlib import Path

from crid.errors import CridError, DeadlineExceededError, FailedPreconditionError, UnavailableError
from crid.linux import inotify, process
from crid.model.container import Container
from crid.model.ids import short
from crid.oci.conmon import MonitorFiles
from crid.wire.conmon import MAX_TERMINAL_SIZE, REOPEN_LOGS_COMMAND, resize_command

REOPEN_TIMEOUT = 5.0


def send(container: Container, command: bytes) -> None:
    """Write `command` to the container's monitor. Raises UnavailableError if there is none."""
    path = MonitorFiles(container.metadata.bundle).control
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, command)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnavailableError(
            f"container {short(container.id)}: its monitor does not listen at {path}: {error.strerror}"
        ) from error


def resize(container: Container, width: int, height: int) -> None:
    """Tell the container's terminal its size in characters; sizes below 1, which clients send before they know, are ignored."""
    if width > 0 and height > 0:
        send(container, resize_command(height=min(height, MAX_TERMINAL_SIZE), width=min(width, MAX_TERMINAL_SIZE)))


async def reopen_log(container: Container) -> None:
    """Make the monitor open the log anew; return once the name has appeared in its directory. See RuntimeImpl.reopen_log."""
    where = f"container {short(container.id)}"
    if not process.is_alive(container.status.process):
        raise FailedPreconditionError(f"{where} is not running: its log cannot be reopened")
    if not container.metadata.log_path:
        raise FailedPreconditionError(f"{where} has no log file")
    path = Path(container.metadata.log_path)
    try:
        watcher = inotify.Watcher()
    except OSError as error:
        raise CridError(f"{where}: {error}") from error
    try:
        watcher.add(str(path.parent), inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_ONLYDIR)
        send(container, REOPEN_LOGS_COMMAND)
        async with asyncio.timeout(REOPEN_TIMEOUT):
            async for event in watcher:
                if event.name == path.name or (event.overflow and path.exists()):
                    return
    except TimeoutError as error:
        raise DeadlineExceededError(f"{where}: its monitor did not reopen {path} within {REOPEN_TIMEOUT:g} s") from error
    except OSError as error:
        raise CridError(f"{where}: log {path}: {error}") from error
    finally:
        watcher.close()
