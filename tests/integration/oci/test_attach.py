"""Attach and port-forward with real monitors and sockets."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crid.errors import UnavailableError
from crid.linux import process
from crid.oci import attach
from tests.harness.tools import PATIENCE
from tests.integration.oci.lab import Client, Lab, feed

pytestmark = pytest.mark.root


async def test_input_of_one_client_ends_with_it(lab: Lab) -> None:
    container = await lab.run("cat", stdin=True, stdin_once=True)
    client = Client(feed(b"hello\n"))
    async with asyncio.timeout(PATIENCE):
        await lab.runtime.attach(container, client.streams)
    assert client.stdout == bytearray(b"hello\n")
    assert (await lab.wait_exit(container)).exit_code == 0


async def test_input_stays_open_for_the_next_client(lab: Lab) -> None:
    container = await lab.run("cat", stdin=True)
    watcher = Client()
    watching = asyncio.create_task(lab.runtime.attach(container, watcher.streams))
    async with asyncio.timeout(PATIENCE):
        while not watcher.stdout:  # until the monitor has taken it for a client
            await lab.runtime.attach(container, Client(feed(b"zeroth\n")).streams)
            await asyncio.sleep(0.05)
        await lab.runtime.attach(container, Client(feed(b"first\n")).streams)
        await watcher.saw(b"first\n")
        await lab.runtime.attach(container, Client(feed(b"second\n")).streams)
        await watcher.saw(b"second\n")
        assert lab.runtime.is_alive(container)
        await lab.runtime.stop(container, 15, 0)
        await watching


async def test_a_monitor_that_hangs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no client any more, once as many wait as the kernel lets wait."""
    monkeypatch.setattr(attach, "CONNECT_TIMEOUT", 0.1)
    container = await lab.run("cat", stdin=True)
    monitor = container.status.monitor
    assert monitor is not None
    process.send_signal(monitor, signal.SIGSTOP)
    with contextlib.ExitStack() as waiting:
        waiting.callback(process.send_signal, monitor, signal.SIGCONT)

        async def crowd() -> None:
            while True:
                waiting.enter_context(await attach._connect(container))

        with pytest.raises(UnavailableError, match=r"its monitor cannot be attached to: no answer within 0\.1 s"):
            await crowd()
    await lab.runtime.stop(container, 15, 0)
    await lab.wait_exit(container)


async def test_streams_are_told_apart(lab: Lab) -> None:
    container = await lab.run("sh", "-c", "read go; echo out; echo err >&2", stdin=True, stdin_once=True)
    client = Client(feed(b"go\n"))
    async with asyncio.timeout(PATIENCE):
        await lab.runtime.attach(container, client.streams)
    assert (bytes(client.stdout), bytes(client.stderr)) == (b"out\n", b"err\n")


async def test_large_input_passes(lab: Lab) -> None:
    container = await lab.run("wc", "-c", stdin=True, stdin_once=True)
    client = Client(feed(*[b"x" * 100_000] * 10))
    async with asyncio.timeout(PATIENCE):
        await lab.runtime.attach(container, client.streams)
    assert client.stdout.strip() == b"1000000"


async def test_client_that_goes_away_leaves_the_container(lab: Lab) -> None:
    container = await lab.run("sh", "-c", "while echo y; do sleep 0.05; done")

    async def gone(data: bytes) -> None:
        raise ConnectionResetError("client")

    client = Client()
    client.streams = type(client.streams)(stdout=gone)
    async with asyncio.timeout(PATIENCE):
        await lab.runtime.attach(container, client.streams)
    assert lab.runtime.is_alive(container)


async def test_terminal_takes_input_and_sizes(lab: Lab) -> None:
    container = await lab.run(
        "sh", "-c", "trap 'stty size' WINCH; while :; do read line && echo got $line; done", tty=True, stdin=True
    )

    async def sizes() -> AsyncIterator[tuple[int, int]]:
        yield (0, 0)
        while True:  # again and again: the shell takes a moment to set its trap
            for columns in (77, 78):
                yield (columns, 33)
                await asyncio.sleep(0.05)

    async def typed() -> AsyncIterator[bytes]:
        while True:
            yield b"one\n"
            await asyncio.sleep(0.05)

    client = Client(typed(), sizes())
    work = asyncio.create_task(lab.runtime.attach(container, client.streams))
    await client.saw(b"33 77")
    await client.saw(b"got one")
    work.cancel()
    await asyncio.wait((work,))
    assert lab.runtime.is_alive(container)


def serve_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        connection.sendall(b"got " + received)


async def test_port_forward_in_the_host_s_namespace(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve_once, args=(listener,))
        server.start()
        client = Client(feed(b"ping"))
        async with asyncio.timeout(PATIENCE):
            await lab.runtime.port_forward("", listener.getsockname()[1], client.streams)
        server.join()
    assert client.stdout == bytearray(b"got ping")


async def test_port_forward_in_a_container_s_namespace(lab: Lab) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "network"})

    container = await lab.run("stubborn", change=change)
    assert container.status.process is not None
    with pytest.raises(UnavailableError, match="port 4242"):
        await lab.runtime.port_forward(f"/proc/{container.status.process.pid}/ns/net", 4242, Client().streams)


async def test_port_forward_falls_back_to_ipv6(lab: Lab) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        server = threading.Thread(target=serve_once, args=(listener,))
        server.start()
        client = Client(feed(b"six"))
        async with asyncio.timeout(PATIENCE):
            await lab.runtime.port_forward("", listener.getsockname()[1], client.streams)
        server.join()
    assert client.stdout == bytearray(b"got six")
