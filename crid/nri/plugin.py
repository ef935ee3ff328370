"""One registered plugin: what it wants to hear of, and how it is asked.

A plugin may refuse (the error is its word, and fails what it was asked about, where that can still fail). One that does not
answer in time, or hangs up, is dropped, and what it was asked about goes on without it.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

import crid
from crid.cri import nri_pb2 as nri
from crid.errors import CridError, UnavailableError
from crid.log import fields
from crid.nri.connection import Connection, RefusalError
from crid.wire import ttrpc

logger = logging.getLogger(__name__)

SERVICE = "nri.pkg.api.v1alpha1.Plugin"
NRI_VERSION = "v0.12.0"
"""Whose messages protos/crid/cri/nri.proto has; plugins are told."""
ALL_EVENTS = (1 << (nri.LAST - 1)) - 1
SYNCHRONIZE_BYTES = 2 << 20
"""Of pods and containers in one Synchronize message, about; a frame holds twice as many."""

METHODS: dict[nri.Event.ValueType, str] = {
    nri.RUN_POD_SANDBOX: "RunPodSandbox",
    nri.STOP_POD_SANDBOX: "StopPodSandbox",
    nri.REMOVE_POD_SANDBOX: "RemovePodSandbox",
    nri.CREATE_CONTAINER: "CreateContainer",
    nri.POST_CREATE_CONTAINER: "PostCreateContainer",
    nri.START_CONTAINER: "StartContainer",
    nri.POST_START_CONTAINER: "PostStartContainer",
    nri.UPDATE_CONTAINER: "UpdateContainer",
    nri.POST_UPDATE_CONTAINER: "PostUpdateContainer",
    nri.STOP_CONTAINER: "StopContainer",
    nri.REMOVE_CONTAINER: "RemoveContainer",
    nri.UPDATE_POD_SANDBOX: "UpdatePodSandbox",
    nri.POST_UPDATE_POD_SANDBOX: "PostUpdatePodSandbox",
    nri.VALIDATE_CONTAINER_ADJUSTMENT: "ValidateContainerAdjustment",
}

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: from connecting to being synchronized, and for each request after that."""

    registration: float
    request: float


class PluginRefusalError(UnavailableError):
    """A plugin refused; the message is its own. Asked again, it may agree."""


class Plugin:
    """Registered under `index`, two digits that give its place among the plugins, and `name`."""

    def __init__(self, index: str, name: str, connection: Connection, timeouts: Timeouts) -> None:
        self.index = index
        self.name = name
        self._connection = connection
        self._timeouts = timeouts
        self._events = 0
        self._ready = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Plugin {self.title} events={self._events:#x} ready={self._ready.is_set()}>"

    @property
    def title(self) -> str:
        """How it is named in logs and errors."""
        return f"{self.index}-{self.name}"

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._connection.closed

    def wants(self, event: nri.Event.ValueType) -> bool:
        """Whether it has asked to hear of `event`."""
        return bool(self._events & 1 << (event - 1))

    async def configure(self) -> None:
        """Ask which events it wants. Raises CridError if it does not say, or names events that do not exist."""
        request = nri.ConfigureRequest(
            runtime_name="crid",
            runtime_version=crid.__version__,
            registration_timeout=round(self._timeouts.registration * 1000),
            request_timeout=round(self._timeouts.request * 1000),
            NRI_version=NRI_VERSION,
        )
        answer = await self._call("Configure", request, nri.ConfigureResponse, self._timeouts.registration)
        if answer.events & ~ALL_EVENTS:
            raise UnavailableError(f"NRI plugin {self.title} asks for events that do not exist: {answer.events:#x}")
        self._events = answer.events or ALL_EVENTS

    async def synchronize(
        self, pods: Sequence[nri.PodSandbox], containers: Sequence[nri.Container]
    ) -> list[nri.ContainerUpdate]:
        """Tell it what exists and return the updates it wants; only then it hears of events. Raises CridError."""
        for request in _portions(pods, containers):
            answer = await self._call("Synchronize", request, nri.SynchronizeResponse, self._timeouts.registration)
            if request.more and (not answer.more or answer.update):
                raise UnavailableError(f"NRI plugin {self.title} does not take what exists in several messages")
        self._ready.set()
        return list(answer.update)

    async def ask(self, event: nri.Event.ValueType, request: Message, answer: type[M]) -> M | None:
        """Send an event, once the plugin is synchronized. None: it does not want the event, or it is gone.

        Raises PluginRefusalError with the plugin's words.
        """
        await self._ready.wait()
        if not (self.wants(event) and self.alive):
            return None
        method = METHODS[event]
        try:
            try:
                return await self._call(method, request, answer, self._timeouts.request)
            except RefusalError as error:
                if error.code != ttrpc.UNIMPLEMENTED or not hasattr(request, "pod"):
                    raise
                change = nri.StateChangeEvent(event=event, pod=request.pod, container=getattr(request, "container", None))
                await self._call("StateChange", change, nri.Empty, self._timeouts.request)
                return answer()
        except RefusalError as error:
            raise PluginRefusalError(f"NRI plugin {self.title} refused {method}: {error}") from error
        except (CridError, ValueError) as error:
            logger.warning("an NRI plugin is dropped%s", fields(plugin=self.title, why=error))
            self.drop()
            return None

    def drop(self) -> None:
        """Hang up. Whoever waits to ask it goes on without it. Idempotent."""
        self._connection.close()
        self._ready.set()

    async def _call(self, method: str, request: Message, answer: type[M], timeout: float) -> M:
        return await self._connection.call(SERVICE, method, request, answer, timeout)


def _portions(pods: Sequence[nri.PodSandbox], containers: Sequence[nri.Container]) -> list[nri.SynchronizeRequest]:
    """Return what exists in messages that fit into a frame, all but the last with `more`."""
    portions = [nri.SynchronizeRequest()]
    size = 0
    singles = [nri.SynchronizeRequest(pods=[pod]) for pod in pods]
    singles += [nri.SynchronizeRequest(containers=[container]) for container in containers]
    for single in singles:
        size += single.ByteSize()
        if size > SYNCHRONIZE_BYTES:
            portions[-1].more = True
            portions.append(nri.SynchronizeRequest())
            size = single.ByteSize()
        portions[-1].MergeFrom(single)
    return portions
