"""Commands in real containers: what the contract suite cannot ask of a fake."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crid.errors import FailedPreconditionError
from crid.oci import descendants, exec_sync
from crid.oci.runtime import EXEC_SYNC_OUTPUT_LIMIT, Streams
from crid.wire import conmon as wire
from tests.harness.tools import PATIENCE, until
from tests.integration.oci.lab import Client, Lab, feed

pytestmark = pytest.mark.root


async def test_exec_gets_the_container_s_environment_and_user(lab: Lab) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7]}

    container = await lab.run("stubborn", change=change)
    result = await lab.runtime.exec_sync(container, ["sh", "-c", "id -u; id -g; id -G; echo $MARK"], PATIENCE)
    assert result.stdout == b"1000\n1001\n1001 7\nof-the-container\n"


async def test_a_command_that_was_ended_with_its_container(lab: Lab) -> None:
    """The monitor reports a failure of the runtime; it was the container's end."""
    container = await lab.run("true")
    await lab.wait_exit(container)
    failed = wire.ProcessExited(-1, "crun exec was killed by signal 9")
    for event in (failed, None):
        with pytest.raises(FailedPreconditionError, match="the container has ended meanwhile"):
            exec_sync._result(container, event, (b"", b""), "")


async def test_exec_sync_separates_streams_and_keeps_every_byte(lab: Lab) -> None:
    container = await lab.run("stubborn")
    script = "printf 'a\\nb'; printf '\\303\\000\\n\\nx' >&2; exit 3"
    result = await lab.runtime.exec_sync(container, ["sh", "-c", script], PATIENCE)
    assert (result.stdout, result.stderr, result.exit_code) == (b"a\nb", b"\xc3\x00\n\nx", 3)


async def test_exec_sync_cuts_each_stream(lab: Lab) -> None:
    container = await lab.run("stubborn")
    zeros = "dd if=/dev/zero bs=1024k count=20 2>/dev/null"
    script = f"{zeros} | tr '\\000' o; {zeros} | tr '\\000' e >&2"
    result = await lab.runtime.exec_sync(container, ["sh", "-c", script], PATIENCE)
    assert result.exit_code == 0
    assert result.stdout == b"o" * EXEC_SYNC_OUTPUT_LIMIT
    assert result.stderr == b"e" * EXEC_SYNC_OUTPUT_LIMIT


async def test_exec_sync_timeout_ends_the_command(lab: Lab) -> None:
    container = await lab.run("stubborn")
    for seconds in (1, 5, 25):  # more where the runtime takes so long for its own part, which counts
        result = await lab.runtime.exec_sync(container, ["sh", "-c", "echo before; sleep 4242 & sleep 4243"], seconds)
        assert result.timed_out
        assert "424" not in await lab.running_in(container)
        if result.stdout:
            break
    assert result.stdout == b"before\n"


async def test_cancelled_exec_sync_ends_the_command(lab: Lab) -> None:
    container = await lab.run("stubborn")
    work = asyncio.create_task(lab.runtime.exec_sync(container, ["sleep", "4242"], 0))
    await lab.runs(container, "4242")
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert "4242" not in await lab.running_in(container)


async def test_exec_sync_does_not_wait_for_a_grandchild(lab: Lab) -> None:
    container = await lab.run("stubborn")
    async with asyncio.timeout(PATIENCE):
        result = await lab.runtime.exec_sync(container, ["sh", "-c", "setsid sleep 4242 & echo done"], 0)
    assert result.stdout == b"done\n"


async def test_exec_does_not_wait_for_a_grandchild(lab: Lab) -> None:
    if lab.kind.startswith("runc"):
        pytest.skip("runc copies the streams itself and waits for the last writer")
    container = await lab.run("stubborn")
    client = Client()
    async with asyncio.timeout(PATIENCE):
        assert await lab.runtime.exec(container, ["sh", "-c", "setsid sleep 4242 & echo done"], client.streams, tty=False) == 0
    assert client.stdout == bytearray(b"done\n")


async def test_exec_delivers_everything_to_a_slow_client(lab: Lab) -> None:
    container = await lab.run("stubborn")
    taken = 0

    async def slow(data: bytes) -> None:
        nonlocal taken
        await asyncio.sleep(0.02)
        taken += len(data)

    command = ["dd", "if=/dev/zero", "bs=64k", "count=30"]
    assert await lab.runtime.exec(container, command, Streams(stdout=slow), tty=False) == 0
    assert taken == 30 * 65536


async def test_exec_stdin_belongs_to_any_user(lab: Lab) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000}

    container = await lab.run("stubborn", change=change)
    client = Client(feed(b"through a name\n"))
    assert await lab.runtime.exec(container, ["cat", "/proc/self/fd/0"], client.streams, tty=False) == 0, client.stderr
    assert client.stdout == bytearray(b"through a name\n")


@pytest.mark.parametrize("tty", [False, True])
async def test_cancelled_exec_ends_the_command(lab: Lab, tty: bool) -> None:
    container = await lab.run("stubborn")
    work = asyncio.create_task(lab.runtime.exec(container, ["sleep", "4242"], Client().streams, tty=tty))
    await lab.runs(container, "4242")
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert "4242" not in await lab.running_in(container)
    await until(lambda: not descendants.children(os.getpid()), "the monitor of `ps` is reaped behind its result")


async def test_a_client_that_is_gone_ends_the_command(lab: Lab) -> None:
    container = await lab.run("stubborn")

    async def gone(data: bytes) -> None:
        raise ConnectionResetError("client")

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionResetError):
            await lab.runtime.exec(
                container, ["sh", "-c", "while echo y; do sleep 0.01; done"], Streams(stdout=gone), tty=False
            )
    assert "while" not in await lab.running_in(container)


async def test_terminal_exec(lab: Lab) -> None:
    container = await lab.run("stubborn")
    client = Client(feed(b"echo an''swer; tty_is=$(stty size); exit 5\n", then=asyncio.Event().wait()))
    async with asyncio.timeout(PATIENCE):
        assert await lab.runtime.exec(container, ["sh"], client.streams, tty=True) == 5
    assert b"answer\r\n" in client.stdout
    assert not client.stderr


async def test_terminal_exec_follows_the_window(lab: Lab) -> None:
    container = await lab.run("stubborn")
    sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    resized = asyncio.Event()

    async def resize() -> AsyncIterator[tuple[int, int]]:
        while True:
            yield await sizes.get()

    client = Client(feed(b"", then=resized.wait()), resize())
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done"
    work = asyncio.create_task(lab.runtime.exec(container, ["sh", "-c", script], client.streams, tty=True))
    await client.saw(b"ready")
    sizes.put_nowait((0, 0))
    sizes.put_nowait((91, 37))
    async with asyncio.timeout(PATIENCE):
        assert await work == 0
    assert b"37 91" in client.stdout


async def test_exit_code_of_a_signalled_command(lab: Lab) -> None:
    container = await lab.run("stubborn")
    assert (await lab.runtime.exec_sync(container, ["sh", "-c", "kill -9 $$"], PATIENCE)).exit_code == 137
    assert await lab.runtime.exec(container, ["sh", "-c", "kill -9 $$"], Streams(), tty=False) == 137
