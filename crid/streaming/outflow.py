"""What a process or a port has to say, on its way to the client: as fast as the client takes it, and no faster.

Two things may hold it up: the stream's window, which the client moves, and the socket's buffer. The caller waits for
both, so between the process and the client there is never more than one chunk of a stream and one buffer of a socket.

Where neither does, a process that writes without end and a client that is fast enough would keep the event loop to
themselves, so every TURN bytes the others get their turn.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from crid.streaming.link import Link

TURN = 256 * 1024


class Outflow:
    """A stream towards the client. `send` queues what the window allows and returns how much of it that was."""

    def __init__(self, link: Link[Any], send: Callable[[bytes], int]) -> None:
        self._link = link
        self._send = send
        self._open_window = asyncio.Event()
        self._since_turn = 0

    def writable(self) -> None:
        """The window has opened again."""
        self._open_window.set()

    async def write(self, data: bytes) -> None:
        """Send all of `data`; return when the client can take more. Raises ConnectionError once it is gone."""
        while True:
            self._open_window.clear()
            taken = self._send(data)
            self._link.flush()
            await self._link.drained()
            self._since_turn += taken
            if self._since_turn >= TURN:
                self._since_turn = 0
                await asyncio.sleep(0)
            if taken >= len(data):
                return
            data = data[taken:]
            await self._open_window.wait()
