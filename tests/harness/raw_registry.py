"""A registry made of bytes: it answers each request with what a test wrote, be it HTTP or not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

Answer = Callable[[str], AsyncIterator[bytes]]
"""Given a request's path, yields the bytes of the answer; the connection is closed behind them."""


@asynccontextmanager
async def raw_registry(answer: Answer) -> AsyncIterator[str]:
    """Serve `answer` on loopback for the block; yields HOST:PORT."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            if await reader.readexactly(1) != b"\x16":  # TLS is tried first
                head = await reader.readuntil(b"\r\n\r\n")
                async for piece in answer(head.split()[1].decode(errors="replace")):
                    writer.write(piece)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
