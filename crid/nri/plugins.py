"""The socket that plugins connect to, and the plugins that have registered.

Nothing is lost and nothing is told twice to a plugin that comes late: it joins the list in the same step in which what
exists is listed for it, and events wait for the plugins whose synchronization goes on. What an event was about to make when
the plugin joined is among what exists.
"""

import asyncio
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from google.protobuf.message import Message

from crid.cri import nri_pb2 as nri
from crid.errors import CridError, InvalidArgumentError, UnavailableError
from crid.linux.unix_socket import SocketFile, take_over
from crid.log import fields
from crid.nri.connection import Connection, RefusalError
from crid.nri.plugin import Plugin, Timeouts
from crid.tasks import Supervisor
from crid.wire import ttrpc

logger = logging.getLogger(__name__)

SERVICE = "nri.pkg.api.v1alpha1.Runtime"
MAX_PLUGINS = 64
"""Connections at a time."""
FAREWELL = 1.0
"""Seconds that calls of plugins get when the daemon ends."""


class Node(Protocol):
    """What plugins see of the node, and may do to it."""

    def inventory(self) -> tuple[list[nri.PodSandbox], list[nri.Container]]:
        """Return what exists, and what is being made and was told to all plugins that there are."""

    async def update(self, updates: Sequence[nri.ContainerUpdate]) -> list[nri.ContainerUpdate]:
        """Change limits of containers and return those updates that failed and may not be ignored."""

    async def evict(self, evictions: Sequence[nri.ContainerEviction]) -> None:
        """Stop containers."""


class Plugins:
    """Listens from `start` to `stop`."""

    def __init__(self, node: Node, timeouts: Timeouts) -> None:
        self._node = node
        self._timeouts = timeouts
        self._supervisor = Supervisor("nri")
        self._plugins: list[Plugin] = []
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._file: SocketFile | None = None

    def __repr__(self) -> str:
        return f"<Plugins {[plugin.title for plugin in self._plugins]}>"

    def current(self) -> list[Plugin]:
        """Return the plugins in the order in which they are asked: by index, then by age."""
        return list(self._plugins)

    async def start(self, path: Path) -> None:
        """Listen at `path`; root alone may connect. Raises as `take_over`, UnavailableError."""
        take_over(path)
        previous = os.umask(0o177)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, path)
        except OSError as error:
            raise UnavailableError(f"NRI: cannot listen on {path}: {error.strerror}") from error
        finally:
            os.umask(previous)
        self._file = SocketFile(path)
        logger.info("NRI plugins may connect%s", fields(socket=path))

    async def stop(self) -> None:
        """Hang up on all plugins and remove the socket."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._supervisor.close(FAREWELL)
        if self._file is not None:
            self._file.remove()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_PLUGINS:
            logger.warning("an NRI plugin is refused%s", fields(limit=MAX_PLUGINS))
            writer.close()
            return
        client = _Client(self._node, self._timeouts, reader, writer, self._supervisor)
        self._connections.add(client.connection)  # now: those that come at once are all accepted before one is served
        self._supervisor.start_logged(self._serve(client), "NRI plugin")

    async def _serve(self, client: "_Client") -> None:
        """Take a plugin in, and see it out."""
        connection = client.connection
        reading = self._supervisor.start_logged(connection.run(), "reading of an NRI plugin")
        reading.add_done_callback(lambda _: client.gone())
        plugin: Plugin | None = None
        try:
            async with asyncio.timeout(self._timeouts.registration):
                plugin = await client.registered
            await plugin.configure()
            updates = await self._join(plugin)
            logger.info("an NRI plugin is ready%s", fields(plugin=plugin.title))
            await self._node.update(updates)
            await reading
            logger.info("an NRI plugin has left%s", fields(plugin=plugin.title))
        except TimeoutError:
            logger.warning("an NRI plugin did not register%s", fields(timeout_s=self._timeouts.registration))
        except (CridError, ValueError) as error:
            logger.warning("an NRI plugin is not taken%s", fields(plugin=plugin and plugin.title, why=error))
        finally:
            connection.close()
            self._connections.discard(connection)
            if plugin is not None:
                plugin.drop()
                if plugin in self._plugins:
                    self._plugins.remove(plugin)

    async def _join(self, plugin: Plugin) -> list[nri.ContainerUpdate]:
        pods, containers = self._node.inventory()
        self._plugins.append(plugin)
        self._plugins.sort(key=lambda item: item.index)
        return await plugin.synchronize(pods, containers)


class _Client:
    """A connection that may become a plugin, and what it calls."""

    def __init__(
        self,
        node: Node,
        timeouts: Timeouts,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        supervisor: Supervisor,
    ) -> None:
        self._node = node
        self._timeouts = timeouts
        self.connection = Connection(reader, writer, supervisor, self._serve)
        self.registered: asyncio.Future[Plugin] = asyncio.get_running_loop().create_future()

    def gone(self) -> None:
        """The connection has ended: nobody will register any more."""
        if not self.registered.done():
            self.registered.set_exception(UnavailableError("it hung up before it registered"))

    async def _serve(self, service: str, method: str, request: bytes) -> Message:
        if (service, method) == (SERVICE, "RegisterPlugin"):
            return self._register(nri.RegisterPluginRequest.FromString(request))
        if (service, method) == (SERVICE, "UpdateContainers"):
            return await self._update(nri.UpdateContainersRequest.FromString(request))
        raise RefusalError(ttrpc.UNIMPLEMENTED, f"crid serves no {service}/{method}")

    def _register(self, request: nri.RegisterPluginRequest) -> nri.Empty:
        if self.registered.done():
            raise InvalidArgumentError("the plugin has registered already")
        if not re.fullmatch(r"[0-9]{2}", request.plugin_idx, re.ASCII):
            raise InvalidArgumentError(f"plugin index {request.plugin_idx!r} is not two digits")
        if not re.fullmatch(r"[a-zA-Z0-9_.+-]{1,256}", request.plugin_name, re.ASCII):
            raise InvalidArgumentError(f"plugin name {request.plugin_name!r} is not made of letters, digits and _.+-")
        self.registered.set_result(Plugin(request.plugin_idx, request.plugin_name, self.connection, self._timeouts))
        return nri.Empty()

    async def _update(self, request: nri.UpdateContainersRequest) -> nri.UpdateContainersResponse:
        if not self.registered.done():
            raise InvalidArgumentError("the plugin has not registered")
        failed = await self._node.update(request.update)
        await self._node.evict(request.evict)
        return nri.UpdateContainersResponse(failed=failed)
