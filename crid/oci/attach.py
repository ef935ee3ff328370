"""Attach: a client joins the stdio that the monitor holds.

The monitor's socket keeps message boundaries (SOCK_SEQPACKET). Output comes as packets that begin with their stream's
number; input goes as raw bytes, and shutting down our half tells the monitor that this client's input has ended. The
socket is reached through the bundle's descriptor, since a bundle's path may be longer than sun_path allows (unix(7)).
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable

from crid.errors import FailedPreconditionError, UnavailableError
from crid.linux import process
from crid.model.container import Container
from crid.model.ids import short
from crid.oci import control
from crid.oci.runtime import Streams
from crid.wire.conmon import MAX_OUTPUT_PACKET, Stream, parse_attach_packet, stdin_packets

CONNECT_TIMEOUT = 5.0
RETRY = 0.01


async def attach(container: Container, streams: Streams) -> None:
    """Carry `streams` until the container or the client is done; see RuntimeImpl.attach.

    The end of the client's input closes that of a container that takes one client's input only (`stdin_once`) or has a
    terminal, and we go on with its output. Any other container's input stays open for the next client: there the end of
    input is the end of the attachment.
    """
    if not process.is_alive(container.status.process):
        raise FailedPreconditionError(f"container {short(container.id)} is not running: nothing to attach to")
    connection = await _connect(container)
    finished = asyncio.Event()
    half_closes = container.metadata.terminal or container.metadata.config.stdin_once
    with connection, contextlib.suppress(ConnectionError):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_receive(connection, streams, finished))]
                if streams.resize is not None:
                    tasks.append(group.create_task(_resize(container, streams.resize)))
                if streams.stdin is not None:
                    at_end = (lambda: connection.shutdown(socket.SHUT_WR)) if half_closes else finished.set
                    tasks.append(group.create_task(_send(connection, streams.stdin, at_end)))
                await finished.wait()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None


async def _connect(container: Container) -> socket.socket:
    """Return a connection to the container's monitor. Raises UnavailableError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bundle = os.open(container.metadata.bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                # A full backlog of a unix socket is no pollable event (connect(2), EAGAIN).
                while not _connected(connection, f"/proc/self/fd/{bundle}/attach"):  # noqa: ASYNC110  # nothing to wait for
                    await asyncio.sleep(RETRY)
        finally:
            os.close(bundle)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError):  # TimeoutError is one
            reason = error.strerror or f"no answer within {CONNECT_TIMEOUT:g} s"
            raise UnavailableError(f"container {short(container.id)}: its monitor cannot be attached to: {reason}") from error
        raise
    return connection


def _connected(connection: socket.socket, path: str) -> bool:
    """Try to connect; False if the monitor has not accepted the clients before us yet."""
    try:
        connection.connect(path)
    except BlockingIOError:
        return False
    return True


async def _receive(connection: socket.socket, streams: Streams, finished: asyncio.Event) -> None:
    """Pass the container's output on until there is no more."""
    sinks = {Stream.STDOUT: streams.stdout, Stream.STDERR: streams.stderr}
    loop = asyncio.get_running_loop()
    while packet := await loop.sock_recv(connection, MAX_OUTPUT_PACKET):
        stream, data = parse_attach_packet(packet)
        if (sink := sinks[stream]) is not None and data:
            await sink(data)
    finished.set()


async def _send(connection: socket.socket, stdin: AsyncIterator[bytes], at_end: Callable[[], None]) -> None:
    """Pass the client's input on, then do what its end means. Input that nobody takes any more is dropped."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for data in stdin:
            for packet in stdin_packets(data):
                await loop.sock_sendall(connection, packet)
        at_end()


async def _resize(container: Container, sizes: AsyncIterator[tuple[int, int]]) -> None:
    async for width, height in sizes:
        with contextlib.suppress(UnavailableError):  # the container is ending: nobody will see the size
            control.resize(container, width, height)
