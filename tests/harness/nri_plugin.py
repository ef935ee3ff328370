"""An NRI plugin of the tests' own, over the same frames as crid: it notes what it hears, and answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from crid.cri import nri_pb2 as nri
from crid.nri.connection import Connection, RefusalError
from crid.tasks import Supervisor
from crid.wire import nri_mux, ttrpc
from tests.harness.tools import PATIENCE

RUNTIME = "nri.pkg.api.v1alpha1.Runtime"
PATIENT = {"nri_plugin_registration_timeout": f"{PATIENCE:g}s", "nri_plugin_request_timeout": f"{PATIENCE:g}s"}
"""`[crid.nri]` of a daemon that drops no plugin because the machine is busy, as two seconds without an answer make it."""
METHODS = {method.name: method for method in nri.DESCRIPTOR.services_by_name["Plugin"].methods}


@dataclass
class ScriptedPlugin:
    """`answers` holds what a method returns, or a function of the request; `older` are methods it does not know."""

    index: str = "10"
    name: str = "test"
    events: int = 0
    answers: dict[str, Any] = field(default_factory=dict)
    older: frozenset[str] = frozenset()
    heard: list[tuple[str, Any]] = field(default_factory=list)
    synchronized: asyncio.Event = field(default_factory=asyncio.Event)
    connection: Connection = field(init=False)
    transport: asyncio.WriteTransport = field(init=False)

    @asynccontextmanager
    async def connected(self, path: Path) -> AsyncIterator["ScriptedPlugin"]:
        """Connect, without registering."""
        reader, writer = await asyncio.open_unix_connection(path)
        self.transport = writer.transport
        supervisor = Supervisor("test plugin")
        self.connection = Connection(reader, writer, supervisor, self._serve, outgoing=nri_mux.RUNTIME, incoming=nri_mux.PLUGIN)
        supervisor.start_logged(self.connection.run(), "test plugin")
        try:
            yield self
        finally:
            self.connection.close()
            await supervisor.close(5)

    @asynccontextmanager
    async def ready(self, path: Path) -> AsyncIterator["ScriptedPlugin"]:
        """Connect, register, and wait until what exists has been told."""
        async with self.connected(path):
            await self.register()
            await asyncio.wait_for(self.synchronized.wait(), PATIENCE)
            yield self

    async def register(self) -> None:
        """Register. Raises RefusalError."""
        request = nri.RegisterPluginRequest(plugin_name=self.name, plugin_idx=self.index)
        await self.connection.call(RUNTIME, "RegisterPlugin", request, nri.Empty, PATIENCE)

    async def update(self, *updates: nri.ContainerUpdate, evict: str = "") -> list[nri.ContainerUpdate]:
        """Ask for changes of containers and return those that failed."""
        evictions = [nri.ContainerEviction(container_id=evict, reason="test")] if evict else []
        request = nri.UpdateContainersRequest(update=updates, evict=evictions)
        answer = await self.connection.call(RUNTIME, "UpdateContainers", request, nri.UpdateContainersResponse, PATIENCE)
        return list(answer.failed)

    def methods(self) -> list[str]:
        """Return the methods that were called, without the handshake."""
        return [method for method, _ in self.heard if method not in ("Configure", "Synchronize")]

    def last(self, method: str) -> Any:
        """Return the last request of `method`."""
        return [request for called, request in self.heard if called == method][-1]

    async def _serve(self, service: str, method: str, payload: bytes) -> Message:
        assert service == "nri.pkg.api.v1alpha1.Plugin"
        if method in self.older:
            raise RefusalError(ttrpc.UNIMPLEMENTED, f"no {method}")
        descriptor = METHODS[method]
        request = getattr(nri, descriptor.input_type.name).FromString(payload)
        self.heard.append((method, request))
        answer = self.answers.get(method)
        if callable(answer):
            answer = answer(request)
            if isinstance(answer, Awaitable):
                answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if method == "Synchronize" and not request.more:
            self.synchronized.set()
        if method == "Synchronize" and answer is None:
            return nri.SynchronizeResponse(more=request.more)
        if method == "Configure" and answer is None:
            return nri.ConfigureResponse(events=self.events)
        made: Message = answer if answer is not None else getattr(nri, descriptor.output_type.name)()
        return made


def refusal(message: str) -> RefusalError:
    """Return an answer that refuses."""
    return RefusalError(ttrpc.UNKNOWN, message)
