"""CNI: pods get their network from the plugins that `network_dir` configures, the first valid file being the network.

The directory is watched; a pod keeps what it has when the configuration changes, since its own is in the cache, with
which it is detached. Pods are handled in parallel, one pod's verbs in turn, and each runs to its end even if its caller
is cancelled. A call that takes too long is killed, and DEL follows any ADD that did not succeed.

Ready means: there is a valid configuration, its programs are there and speak its version, and where the network knows
STATUS (1.1) they say yes.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from socket import if_indextoname

from crid.errors import CridError, DeadlineExceededError, InvalidArgumentError, ResourceExhaustedError, UnavailableError
from crid.linux.inotify import IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO, Watcher
from crid.linux.namespaces import in_network_namespace
from crid.linux.threads import Threads
from crid.log import fields
from crid.model.sandbox import NetworkAttachment
from crid.net import cni_config, cni_result, host_local, rtnetlink
from crid.net.cni_cache import CachedAttachment, cache_in
from crid.net.cni_capabilities import PORT_MAPPINGS, capability_arguments, plugin_arguments
from crid.net.cni_config import NetworkList
from crid.net.cni_exec import Attachment, Plugins
from crid.net.cni_network import Timeouts, Verbs, is_exhausted, with_living_namespace
from crid.net.hostports import HostPorts
from crid.net.plugin import NetworkCondition, NetworkPlugin, PodNetwork
from crid.net.rtnetlink import RouteSocket
from crid.tasks import KeyedLock, Supervisor

logger = logging.getLogger(__name__)

POD_INTERFACE = "eth0"
_NOT_READY = "NetworkPluginNotReady"
_LOOPBACK_INDEX = 1
_LOOK_INTERVAL = 5.0
"""Seconds after which a look at the condition, as the kubelet takes at each Status, has everything looked at again."""

_CLOSE_GRACE = 10.0
_KERNEL_PATIENCE = 30.0
"""Seconds for what crid itself does in a pod's namespace, which waits for the kernel's lock over links."""
_PARALLEL_REMOVALS = 8
_PATIENCE = 10.0
"""Seconds that a new pod waits for addresses of pods that are gone to be released."""

_CHANGES = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE


class CniNetwork(NetworkPlugin):
    """The network that `network_dir` says, or the one of them called `default_network`. `directory` is crid's own.

    `start` comes first, `close` last. All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        network_dir: Path,
        plugin_dirs: Sequence[Path],
        directory: Path,
        host_ports: HostPorts,
        *,
        default_network: str = "",
        timeouts: Timeouts | None = None,
    ) -> None:
        self._network_dir = network_dir
        self._default_network = default_network
        self._host_ports = host_ports
        self._cache = cache_in(directory)
        self._verbs = Verbs(Plugins(plugin_dirs), timeouts or Timeouts())
        self._network: NetworkList | None = None
        self._loaded: NetworkList | None = None
        self._configured = bool(default_network)
        self._condition = NetworkCondition(False, _NOT_READY, "the CNI network was not started")
        self._looked_at = 0.0
        self._ranges: tuple[str, ...] = ()
        self._supervisor = Supervisor("cni")
        self._pods = KeyedLock()
        self._kernel_calls = Threads("crid-cni", 8)
        self._looking = asyncio.Lock()
        self._looks = 0
        self._recheck: asyncio.Task[object] | None = None
        self._collected, self._released = asyncio.Event(), asyncio.Event()
        self._collected.set()
        self._released.set()
        self._watcher: Watcher | None = None

    def __repr__(self) -> str:
        name = self._network.name if self._network else None
        return f"<CniNetwork {self._network_dir} network={name} ready={self._condition.ready}>"

    @property
    def configured(self) -> bool:
        """Whether there is any configuration file, valid or not: then it is CNI's business to connect pods."""
        return self._configured

    def holds(self, sandbox_id: str) -> bool:
        """Whether this network has, or may have, something of the pod."""
        return self._cache.holds(sandbox_id)

    async def start(self) -> None:
        """Read the configuration and begin to watch it. What is wrong with it shows in `condition`."""
        try:
            self._network_dir.mkdir(parents=True, exist_ok=True)
            self._watcher = Watcher()
            self._watch()  # before the first look, which would else miss what comes in between
            self._supervisor.start_logged(self._follow(self._watcher), f"watch {self._network_dir}")
        except OSError as error:
            logger.warning("the CNI configuration is not watched, only polled%s", fields(error=error))
        await self._look()

    async def close(self) -> None:
        """Stop watching, and let running work end. Pods keep their network. Idempotent."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        await self._supervisor.close(_CLOSE_GRACE)

    def use_ranges(self, subnets: Sequence[str]) -> None:
        self._ranges = tuple(subnets)

    def condition(self) -> NetworkCondition:
        if asyncio.get_running_loop().time() - self._looked_at >= _LOOK_INTERVAL:
            self._look_soon()
        return self._condition

    async def attach(self, pod: PodNetwork) -> NetworkAttachment:
        return await self._supervisor.run(self._attach(pod), f"attach {pod.sandbox_id}")

    async def detach(self, pod: PodNetwork) -> None:
        await self._supervisor.run(self._detach(pod.sandbox_id), f"detach {pod.sandbox_id}")

    async def retain(self, pods: Collection[PodNetwork]) -> None:
        await self._host_ports.restore([(pod, self.port_interface(pod)) for pod in pods])
        self.collect(pods)

    def collect(self, pods: Collection[PodNetwork]) -> None:
        """Do `retain` but for host ports, beside everything else: a plugin that hangs must not hold up the daemon's start.
        Pods wait with their ADD until GC is through, as plugins would take them for strangers; and a while for the DELs,
        which may free the addresses that they need."""
        self._collected.clear()
        self._released.clear()
        self._supervisor.start_logged(self._collect(frozenset(pod.sandbox_id for pod in pods)), "collect CNI attachments")

    def port_interface(self, pod: PodNetwork) -> str:
        """Return by which interface the host reaches a pod whose host ports are crid's to map, else nothing."""
        cached = self._cache.of(pod.sandbox_id)
        if any(item.network.has_capability(PORT_MAPPINGS) for item in cached):
            return ""
        return way_to(pod.attachment.ips)

    async def _attach(self, pod: PodNetwork) -> NetworkAttachment:
        await self._collected.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._released.wait()
        async with self._pods.hold(pod.sandbox_id):
            if not self._condition.ready:
                await self._look()
            network = self._network
            if network is None or not self._condition.ready:
                raise UnavailableError(f"pod {pod.title}: no network: {self._condition.message}")
            attachment = Attachment(pod.sandbox_id, pod.namespace_path, POD_INTERFACE, plugin_arguments(pod))
            request = CachedAttachment(network, attachment, capability_arguments(pod, self._ranges))
            self._host_ports.claim(pod)
            try:
                return await self._add(pod, request)
            except BaseException as error:
                await self._undo(pod.sandbox_id)
                if isinstance(error, CridError):
                    raise _about(pod, network, error) from error
                raise

    async def _add(self, pod: PodNetwork, request: CachedAttachment) -> NetworkAttachment:
        self._cache.save(request)
        bring_up = partial(in_network_namespace, pod.namespace_path, _bring_up_loopback)
        try:
            await self._kernel_calls.run(bring_up, timeout=_KERNEL_PATIENCE, what=f"pod {pod.title}: bringing up lo")
        except OSError as error:
            raise UnavailableError(f"network namespace {pod.namespace_path}: {error.strerror}") from error
        result = await self._verbs.add(request)
        self._cache.save(replace(request, result=result))
        ips = cni_result.addresses(result, POD_INTERFACE)
        if not ips:
            raise UnavailableError("the plugins gave no address")
        if pod.port_mappings and not request.network.has_capability(PORT_MAPPINGS):
            await self._host_ports.open(pod, ips, way_to(ips))
        return NetworkAttachment(ips=ips, interface=POD_INTERFACE)

    async def _undo(self, sandbox_id: str) -> None:
        try:
            await self._release(sandbox_id)
        except CridError as error:
            logger.error("a failed attach is left for detach to undo%s", fields(sandbox=sandbox_id, error=error))

    async def _detach(self, sandbox_id: str) -> None:
        async with self._pods.hold(sandbox_id):
            await self._release(sandbox_id)

    async def _release(self, sandbox_id: str) -> None:
        """Close the pod's host ports and run DEL for all its attachments.

        Where the namespace is gone a failed DEL is not raised: nobody could do better by asking again, and the pod must
        not be kept by it. Its file stays, so the next start of the daemon tries again.
        """
        await self._host_ports.close(sandbox_id)
        if not self._cache.holds(sandbox_id):
            return
        cached = self._cache.of(sandbox_id)
        if not cached and self._network is not None:  # its file is damaged: the present configuration is the best guess
            cached = [CachedAttachment(self._network, Attachment(sandbox_id, "", POD_INTERFACE))]
        for item in cached:
            try:
                await self._verbs.delete(item)
            except CridError as error:
                if with_living_namespace(item.attachment).namespace:
                    raise
                logger.error("an address may be lost until the next start%s", fields(sandbox=sandbox_id, error=error))
                return
        self._cache.forget(sandbox_id)

    async def _collect(self, kept: Collection[str]) -> None:
        """Run GC where the network knows it, DEL for what is attached for nobody, and CHECK for the rest. A pod whose file is
        damaged is attached all the same: GC must not take its address."""
        known: list[CachedAttachment] = []
        try:
            cached = self._cache.all()
            known = [item for item in cached if item.attachment.container_id in kept]
            await self._free_lost([item.network for item in cached])
            if self._network is not None:
                unread = self._cache.holders() & set(kept) - {item.attachment.container_id for item in known}
                valid = [Attachment(holder, "", POD_INTERFACE) for holder in sorted(unread)]
                await self._verbs.collect(self._network, [*(item.attachment for item in known), *valid])
        except CridError as error:
            logger.error("CNI garbage collection failed%s", fields(error=error))
        finally:
            self._collected.set()
        gate = asyncio.Semaphore(_PARALLEL_REMOVALS)
        try:
            await asyncio.gather(*(self._remove(holder, gate) for holder in self._cache.holders() - set(kept)))
        finally:
            self._released.set()
        for item in known:
            try:
                await self._verbs.check(item)
            except CridError as error:
                words = fields(sandbox=item.attachment.container_id, error=error)
                logger.warning("a pod's network is not as it was%s", words)

    async def _free_lost(self, networks: Iterable[NetworkList]) -> None:
        """Free what host-local holds for nobody any more. A failure is logged: then these addresses stay taken."""
        for book in sorted({book for network in networks for book in host_local.books(network)}):
            try:
                free = partial(host_local.free_lost, book)
                freed = await self._kernel_calls.run(free, timeout=_KERNEL_PATIENCE, what=f"CNI addresses {book}: a look")
            except (OSError, CridError) as error:
                logger.warning("addresses that lost their holders stay taken%s", fields(book=book, error=error))
            else:
                if freed:
                    logger.warning("addresses are freed whose holders' names were lost%s", fields(book=book, freed=freed))

    async def _remove(self, sandbox_id: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            logger.info("releasing the network of a pod that is gone%s", fields(sandbox=sandbox_id))
            try:
                await self._detach(sandbox_id)
            except CridError as error:
                logger.error("cannot release it%s", fields(sandbox=sandbox_id, error=error))

    async def _follow(self, watcher: Watcher) -> None:
        """Look again after each change of the directory."""
        async for event in watcher:
            if event.overflow or event.gone or Path(event.name).suffix in cni_config.SUFFIXES:
                await self._look()

    def _watch(self) -> None:
        """Have the directory watched, also one that was made anew."""
        if self._watcher is not None:
            try:
                self._watcher.add(str(self._network_dir), _CHANGES)
            except OSError as error:
                logger.warning("the CNI configuration is not watched, only polled%s", fields(error=error))

    def _look_soon(self) -> None:
        """Have `_look` run beside everything else, once at a time."""
        if self._recheck is None or self._recheck.done():
            self._watch()
            self._recheck = self._supervisor.start_logged(self._look(), "look at the CNI network")

    async def _look(self) -> None:
        """Find out what the network is and whether it can serve. Of those that wait one looks for all: a plugin that does not
        answer would else hold them up one after the other."""
        asked = self._looks
        async with self._looking:
            if self._looks != asked:  # one has begun since, and so has seen what this one would
                return
            self._looks += 1
            before = self._condition
            try:
                loaded = self._load()
                if loaded != self._loaded or self._network is None:
                    self._network, self._loaded = None, None
                    self._network = await self._verbs.negotiate(loaded)
                    self._loaded = loaded
                    words = fields(network=loaded.name, file=loaded.source, version=self._network.version)
                    logger.info("CNI network%s", words)
                    await self._free_lost([loaded])
                await self._verbs.status(self._network)
            except CridError as error:
                self._condition = NetworkCondition(False, _NOT_READY, str(error))
            else:
                self._condition = NetworkCondition(True)
            self._looked_at = asyncio.get_running_loop().time()
            if self._condition != before and not self._condition.ready and self._configured:
                logger.error("the CNI network is not ready%s", fields(reason=self._condition.message))

    def _load(self) -> NetworkList:
        """Return the first valid network, or the one wanted. Raises UnavailableError saying why there is none."""
        try:
            files = cni_config.candidates(self._network_dir)
        except OSError as error:
            raise UnavailableError(f"CNI configuration {self._network_dir}: {error.strerror}") from error
        self._configured = bool(files or self._default_network)
        problems: list[str] = []
        for file in files:
            try:
                network = cni_config.load(file)
            except InvalidArgumentError as error:
                problems.append(str(error))
                continue
            if self._default_network in ("", network.name):
                return network
        self._network = self._loaded = None
        wanted = f"no CNI network {self._default_network!r}" if self._default_network else "no CNI network"
        raise UnavailableError("; ".join([f"{wanted} in {self._network_dir}", *problems]))


def way_to(ips: Sequence[str]) -> str:
    """Return the name of the interface by which this host reaches the first of these addresses, nothing if by none."""
    try:
        with RouteSocket() as route:
            return if_indextoname(route.route_to(ip_address(ips[0])))
    except (OSError, IndexError):
        return ""


def _bring_up_loopback() -> None:
    with RouteSocket() as route:
        route.send(rtnetlink.set_up(_LOOPBACK_INDEX))


def _about(pod: PodNetwork, network: NetworkList, error: CridError) -> CridError:
    """Return the error with the names of pod and network, as what it means to the caller."""
    text = f"pod {pod.title}: network {network.name}: {error}"
    if is_exhausted(error):
        return ResourceExhaustedError(text)
    return DeadlineExceededError(text) if isinstance(error, DeadlineExceededError) else UnavailableError(text)
