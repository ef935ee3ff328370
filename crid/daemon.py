"""The composition root: the only place that builds objects and ties them together.

Start: directories -> lock -> providers -> recovery -> socket. A client can reach the daemon only when everything that an
earlier one left is known again. Stop: the socket closes, running requests get their time; then what they began ends, or is
cancelled and unwinds, with all parts still at work; these go last. What runs in containers is left alone.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from pathlib import Path

import crid
from crid.assembly.locks import locked
from crid.assembly.providers import Providers, build_providers
from crid.config import Config
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.exec import ExecLifecycle
from crid.lifecycle.exit_watch import ExitWatch
from crid.lifecycle.exits import Exits
from crid.lifecycle.leftovers import Leftovers
from crid.lifecycle.parts import Parts
from crid.lifecycle.recovery import Recovery
from crid.lifecycle.sandbox import SandboxLifecycle
from crid.lifecycle.stats import Stats
from crid.lifecycle.streams import StreamsLifecycle
from crid.linux.notify import feed_watchdog, notify, watchdog_patience
from crid.log import fields
from crid.oci import self_mounts
from crid.oci.exits import read_exit
from crid.server.admin import AdminServicer
from crid.server.images import ImageServicer
from crid.server.listener import Listener
from crid.server.runtime import RuntimeServicer
from crid.server.status import Observer, unobserved
from crid.streaming.server import StreamingServer
from crid.tasks import Supervisor

logger = logging.getLogger(__name__)

STOP_GRACE = 5.0
"""Seconds that running requests get when the daemon is asked to end, and then as many that the work gets which they began."""


async def serve(config: Config) -> None:
    """Run the daemon until SIGTERM or SIGINT. Raises CridError if it cannot start."""
    began = time.monotonic()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with locked(config):
        daemon = Daemon(config)
        try:
            await daemon.start()
            _settle_garbage()
            notify("READY=1")
            daemon.feed_watchdog()
            logger.info("crid is ready%s", fields(version=crid.__version__, ms=round((time.monotonic() - began) * 1000)))
            await stopping.wait()
            notify("STOPPING=1")
            logger.info("stopping: containers go on without the daemon")
        finally:
            await daemon.stop()


async def _leave(parts: Parts) -> None:
    """Remove the cgroup in which crid's own pods have been, if there are no pods any more."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_GRACE):
            if not parts.sandboxes.size():
                await parts.cgroups.remove_all()


def _settle_garbage() -> None:
    """Keep the garbage collector off what is there for good: modules, descriptors of messages, recovered objects.

    A full collection over them takes milliseconds, which would fall on some client's request, and finds nothing.
    """
    gc.collect()
    gc.freeze()


class Daemon:
    """Everything that runs in the process, from `start` to `stop`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._supervisor = Supervisor("daemon")
        self._watching = Supervisor("watch")
        """What goes on until the daemon ends."""
        self._undo = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Build all parts, recover what an earlier daemon left, then open the socket."""
        self._undo.push_async_callback(self._supervisor.close, 0)  # if the start itself fails
        providers = await build_providers(self._config, self._supervisor)
        self._undo.push_async_callback(providers.close)
        self._undo.push_async_callback(_leave, providers.parts)
        parts = providers.parts
        await asyncio.to_thread(parts.classes.prepare)
        exits = Exits(parts.containers, parts.state, read_exit)
        containers = ContainerLifecycle(parts, exits)
        sandboxes = SandboxLifecycle(parts, containers)
        found = await Recovery(parts, exits, read_exit, Leftovers(parts, providers.places)).run()
        if found.sandboxes or found.discarded:
            words = fields(pods=found.sandboxes, containers=found.containers, running=found.running, discarded=found.discarded)
            logger.info("recovered%s", words)
        providers.listeners.ended_before(item.id for item in parts.containers.list() if item.status.finished_at)
        providers.notifier.start(parts.containers, containers.stop)
        self._undo.callback(providers.notifier.close)
        watch = ExitWatch(parts, exits, containers.ended)
        self._undo.callback(watch.close)
        self._undo.push_async_callback(self._watching.close, 0)
        self._watching.start_logged(exits.follow(aiter(providers.exits), containers.ended), "exits")
        self._watching.start_logged(watch.run(), "exit watch")
        self._watching.start_logged(self_mounts.remove(providers.places.programs.runtimes), "mounts of killed runtimes")
        if providers.nri is not None:
            await providers.nri.start(Path(self._config.nri.nri_listen or Path(self._config.runroot, "nri.sock")), containers)
            self._undo.push_async_callback(providers.nri.stop)
        self._undo.push_async_callback(self._supervisor.close, STOP_GRACE)
        for sandbox in found.stopping:  # beside everything else: a CNI plugin that hangs must not hold up the start
            self._supervisor.start_logged(sandboxes.stop(sandbox.id), f"finish the stop of pod {sandbox.id}")
        self._supervisor.start_logged(containers.end_leftovers(found.ended), "leftovers of containers that had ended")
        stats = Stats(parts)
        self._undo.callback(stats.close)
        streams = StreamsLifecycle(parts)
        streaming = StreamingServer(self._config.api, streams)
        self._undo.push_async_callback(streaming.stop)
        await streaming.start()
        runtime = RuntimeServicer(
            parts,
            self._config,
            providers.features,
            sandboxes,
            containers,
            ExecLifecycle(parts),
            stats,
            streams,
            streaming,
            providers.events,
        )
        images = ImageServicer(parts.images, parts.runtime)
        admin = AdminServicer(parts.images, self._supervisor)
        observe = await self._serve_metrics(providers, exits, watch)
        listener = Listener(self._config.api.listen, runtime, images, admin, observe)
        await listener.start()
        self._undo.push_async_callback(listener.stop, STOP_GRACE)
        self._undo.callback(providers.events.close)  # first of all: subscribers would hold up the listener's end

    async def _serve_metrics(self, providers: Providers, exits: Exits, watch: ExitWatch) -> Observer:
        """Serve metrics if they are enabled; return who wants to hear of RPCs for them."""
        if not self._config.metrics.enable_metrics:
            return unobserved
        from crid.metrics.endpoint import Endpoint
        from crid.metrics.facts import Facts
        from crid.metrics.operations import Operations
        from crid.metrics.registry import Registry

        operations = Operations()
        facts = Facts(providers.parts, exits, watch, providers.notifier, providers.events)
        sources = {"operations": operations.collect, **facts.sources()}
        endpoint = Endpoint(self._config.metrics, Registry(sources, self._config.metrics.collectors()).render)
        self._undo.push_async_callback(endpoint.stop)
        await endpoint.start()
        return operations

    def feed_watchdog(self) -> None:
        """Begin to tell the init system's watchdog that the daemon does not hang, if there is one."""
        if patience := watchdog_patience():
            self._watching.start_logged(feed_watchdog(patience), "watchdog")

    async def stop(self) -> None:
        """Close the socket, let requests end, release everything. Containers go on."""
        await self._undo.aclose()
