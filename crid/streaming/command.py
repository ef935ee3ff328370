"""Exec and attach over one connection: the session's events feed the process, the process's output feeds the session.

The work starts when the client has opened its streams, and never outlives the connection: a client that is gone cancels
it, and the runtime then kills the command (an attached container is left alone). However the work ends, the client is
told on the error stream, after all output.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from crid.errors import CridError
from crid.lifecycle.streams import Wanted
from crid.log import fields
from crid.oci.runtime import Streams
from crid.streaming.inflow import Inflow, Sizes
from crid.streaming.link import Link
from crid.streaming.outflow import Outflow
from crid.tasks import Supervisor
from crid.wire.session import (
    Channel,
    ClientGone,
    CommandEvent,
    CommandSession,
    Ready,
    Resize,
    Status,
    StdinClosed,
    StdinData,
    Writable,
)

logger = logging.getLogger(__name__)

CREATION_TIMEOUT = 30.0
"""Seconds in which a client must open the streams it asked for, as in CRI-O."""

Run = Callable[[Streams], Awaitable[int]]
"""Does the work and returns an exit code; 0 for an attachment that ended."""


class CommandWork:
    """One exec or attach. `run` is called at most once."""

    def __init__(
        self, session: CommandSession, wanted: Wanted, run: Run, supervisor: Supervisor, *, idle_timeout: float, name: str
    ) -> None:
        self._session = session
        self._wanted = wanted
        self._run = run
        self._supervisor = supervisor
        self._name = name
        self.link: Link[CommandEvent] = Link(session, self._handle, idle_timeout=idle_timeout, name=name)
        self._stdin = Inflow(self._acknowledge)
        self._sizes = Sizes()
        self._outputs = {
            channel: Outflow(self.link, partial(session.send, channel)) for channel in (Channel.STDOUT, Channel.STDERR)
        }
        self._task: asyncio.Task[object] | None = None
        self._creation = asyncio.get_running_loop().call_later(CREATION_TIMEOUT, self._not_ready)

    def _handle(self, event: CommandEvent) -> None:
        match event:
            case StdinData(data):
                self._stdin.feed(data)
            case Writable(target):
                self._outputs[Channel(target)].writable()
            case Resize(width, height):
                self._sizes.feed(width, height)
            case StdinClosed():
                self._stdin.end()
            case Ready():
                self._creation.cancel()
                self._task = self._supervisor.start_logged(self._work(), self._name)
            case ClientGone(reason, error):
                self._creation.cancel()
                logger.debug("a client is gone%s", fields(stream=self._name, reason=reason, error=error))
                if self._task is not None:
                    self._task.cancel()

    def _not_ready(self) -> None:
        self.link.abort(f"not all streams were opened within {CREATION_TIMEOUT:g} s")

    def _acknowledge(self, count: int) -> None:
        self._session.acknowledge(count)
        self.link.flush()

    async def _work(self) -> None:
        wanted, outputs = self._wanted, self._outputs
        streams = Streams(
            stdin=aiter(self._stdin) if wanted.stdin else None,
            stdout=outputs[Channel.STDOUT].write if wanted.stdout else None,
            stderr=outputs[Channel.STDERR].write if wanted.stderr else None,
            resize=aiter(self._sizes) if wanted.tty else None,
        )
        try:
            status = Status(exit_code=await self._run(streams) & 0xFF)
        except CridError as error:
            logger.info("a stream failed%s", fields(stream=self._name, error=error))
            status = Status(failure=str(error))
        except ConnectionError:  # the client is gone, and was noticed by a write
            status = Status(failure="the client is gone")
        except Exception as error:
            logger.exception("a stream failed unforeseen%s", fields(stream=self._name))
            status = Status(failure=f"{type(error).__name__}: {error}")
        self._stdin.drop()
        self._session.finish(status)
        self.link.flush()
