"""Port-forward over one connection: any number of forwards, each with a task of its own.

A forward has two halves, which end apart. When the runtime is done with it, whatever the client still sends is dropped
until it closes its half too. A port that cannot be reached is that forward's failure, told on its error stream; the others
go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from crid.errors import CridError
from crid.log import fields
from crid.oci.runtime import Streams
from crid.streaming.inflow import Inflow
from crid.streaming.link import Link
from crid.streaming.outflow import Outflow
from crid.tasks import Supervisor
from crid.wire.session import (
    ClientGone,
    ForwardClosed,
    ForwardData,
    ForwardEvent,
    ForwardOpened,
    ForwardPending,
    ForwardReset,
    ForwardSession,
    Writable,
)

logger = logging.getLogger(__name__)

PAIR_TIMEOUT = 30.0
"""Seconds in which a client must open the second stream of a pair, as in CRI-O."""

Connect = Callable[[int, Streams], Awaitable[None]]
"""Connects a port's streams, until its side is done."""


@dataclass(slots=True)
class _Forward:
    """One forwarded connection."""

    inflow: Inflow
    outflow: Outflow
    task: asyncio.Task[object] | None = None
    finished: bool = False
    """Whether the pod's side is done."""


class ForwardWork:
    """The forwards of one client. `connect` is called once for each."""

    def __init__(
        self, session: ForwardSession, connect: Connect, supervisor: Supervisor, *, idle_timeout: float, name: str
    ) -> None:
        self._session = session
        self._connect = connect
        self._supervisor = supervisor
        self._name = name
        self.link: Link[ForwardEvent] = Link(session, self._handle, idle_timeout=idle_timeout, name=name)
        self._forwards: dict[int, _Forward] = {}
        self._expiring: dict[str, asyncio.TimerHandle] = {}

    def _handle(self, event: ForwardEvent) -> None:
        match event:
            case ForwardOpened(forward, port):
                self._open(forward, port)
            case ForwardData(forward) | ForwardClosed(forward) | ForwardReset(forward) | Writable(forward):
                if (known := self._forwards.get(forward)) is not None:
                    self._handle_one(forward, known, event)
            case ForwardPending(request_id):
                self._expire_later(request_id)
            case ClientGone(reason, error):
                logger.debug("a client is gone%s", fields(stream=self._name, reason=reason, error=error))
                self._forget_all()

    def _handle_one(self, forward: int, known: _Forward, event: ForwardData | ForwardClosed | ForwardReset | Writable) -> None:
        match event:
            case ForwardData(_, data):
                known.inflow.feed(data)
            case Writable():
                known.outflow.writable()
            case ForwardReset():
                self._forget(forward)
            case ForwardClosed():
                known.inflow.end()
                if known.finished:
                    del self._forwards[forward]

    def _forget_all(self) -> None:
        for forward in tuple(self._forwards):
            self._forget(forward)
        for timer in self._expiring.values():
            timer.cancel()
        self._expiring.clear()

    def _open(self, forward: int, port: int) -> None:
        known = _Forward(
            Inflow(lambda count: self._acknowledge(forward, count)),
            Outflow(self.link, lambda data: self._session.send(forward, data)),
        )
        self._forwards[forward] = known
        known.task = self._supervisor.start_logged(self._work(forward, port, known), f"{self._name} port {port}")

    def _forget(self, forward: int) -> None:
        known = self._forwards.pop(forward, None)
        if known is not None and known.task is not None:
            known.task.cancel()

    def _expire_later(self, request_id: str) -> None:
        def expire() -> None:
            del self._expiring[request_id]
            self._session.expire(request_id)
            self.link.flush()

        if (earlier := self._expiring.get(request_id)) is not None:  # of a pair that is complete: its id may be used again
            earlier.cancel()
        self._expiring[request_id] = asyncio.get_running_loop().call_later(PAIR_TIMEOUT, expire)

    def _acknowledge(self, forward: int, count: int) -> None:
        self._session.acknowledge(forward, count)
        self.link.flush()

    async def _work(self, forward: int, port: int, known: _Forward) -> None:
        failure = None
        streams = Streams(stdin=aiter(known.inflow), stdout=known.outflow.write, finish=lambda: self._finish(forward))
        try:
            await self._connect(port, streams)
        except CridError as error:
            logger.info("a port could not be forwarded%s", fields(stream=self._name, port=port, error=error))
            failure = str(error)
        except ConnectionError:
            failure = f"port {port}: the connection broke"
        except Exception as error:
            logger.exception("a forward failed unforeseen%s", fields(stream=self._name, port=port))
            failure = f"port {port}: {type(error).__name__}: {error}"
        known.inflow.drop()
        known.finished = True
        if failure is None:
            self._finish(forward)
        else:
            self._session.fail(forward, failure)
            self.link.flush()
        if failure is not None or known.inflow.ended:
            self._forwards.pop(forward, None)

    def _finish(self, forward: int) -> None:
        self._session.finish(forward)
        self.link.flush()
