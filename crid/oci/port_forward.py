"""Port forwarding: a client's bytes to a TCP port on the loopback of a pod, and back.

Only making the sockets happens in the pod's network namespace; a socket stays in the namespace it was made in
(network_namespaces(7)), so everything after that is the event loop's ordinary work.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator

from crid.errors import DeadlineExceededError, InvalidArgumentError, UnavailableError
from crid.linux.namespaces import in_network_namespace
from crid.oci.runtime import Streams

CONNECT_TIMEOUT = 10.0
HALF_CLOSED_TIMEOUT = 30.0
"""Seconds for which a server that has sent its end still gets what the client sends."""
CHUNK = 64 * 1024
LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def port_forward(network_namespace: str, port: int, streams: Streams) -> None:
    """Carry `streams` until the server or the client is done; see RuntimeImpl.port_forward.

    A client that half-closes still gets the answer, and a server that does so the rest of the request, if `streams` can
    tell the client of a half-close. Raises UnavailableError if nothing listens there.
    """
    if not 0 < port < 65536:
        raise InvalidArgumentError(f"port {port} is not between 1 and 65535")
    with await _connect(network_namespace, port) as connection, contextlib.suppress(ConnectionError):
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_send(connection, streams.stdin)) if streams.stdin is not None else None
                await _receive(connection, streams)
                if sending is not None:
                    if streams.finish is not None:
                        streams.finish()
                        await asyncio.wait([sending], timeout=HALF_CLOSED_TIMEOUT)
                    sending.cancel()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None


async def _connect(network_namespace: str, port: int) -> socket.socket:
    """Return a connection to `port`, over IPv4 or else IPv6."""
    where = f"port {port} in network namespace {network_namespace or 'of the host'}"
    loop = asyncio.get_running_loop()
    failures = []
    for family, address in LOOPBACK:
        try:
            connection = await asyncio.to_thread(_open, network_namespace, family)
        except OSError as error:
            failures.append(f"{address}: {error}")
            continue
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await loop.sock_connect(connection, (address, port))
            return connection
        except TimeoutError as error:
            connection.close()
            raise DeadlineExceededError(f"{where}: {address} did not answer within {CONNECT_TIMEOUT:g} s") from error
        except OSError as error:
            connection.close()
            failures.append(f"{address}: {os.strerror(error.errno or errno.EIO)}")  # asyncio has words of its own
        except BaseException:
            connection.close()
            raise
    raise UnavailableError(f"{where}: {'; '.join(failures)}")


def _open(network_namespace: str, family: socket.AddressFamily) -> socket.socket:
    def make() -> socket.socket:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    return in_network_namespace(network_namespace, make) if network_namespace else make()


async def _receive(connection: socket.socket, streams: Streams) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, CHUNK):
        if streams.stdout is not None:
            await streams.stdout(data)


async def _send(connection: socket.socket, stdin: AsyncIterator[bytes]) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server stopped reading; it may still answer
        async for data in stdin:
            await loop.sock_sendall(connection, data)
        connection.shutdown(socket.SHUT_WR)
