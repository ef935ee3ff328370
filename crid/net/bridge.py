"""The built-in network: pods are ports of one bridge, routed and masqueraded by the host.

What runs where: addresses are given on the event loop (`crid.net.ipam`); links are made on one thread and removed on
another, each with a route socket of its own, since the kernel may hold its lock over links for long while it removes
some. Removals that wait for the thread are done together. A pod's verbs exclude each other, and each runs to its end
even if its caller is cancelled: a cancelled `attach` leaves either nothing or a pod for `detach` to remove.

The bridge and the table stay when the daemon ends, since pods do; `close(remove=True)` removes them once no pod is left.
"""

import asyncio
import logging
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from crid import trace
from crid.errors import CridError, DeadlineExceededError, InvalidArgumentError, UnavailableError
from crid.linux.threads import Threads
from crid.log import fields
from crid.model.sandbox import NetworkAttachment
from crid.net.addresses import Address, Network
from crid.net.hostports import HostPorts
from crid.net.ipam import AddressStore
from crid.net.links import POD_INTERFACE, BridgeGoneError, BridgeLinks, NetworkError
from crid.net.plugin import NetworkCondition, NetworkPlugin, PodNetwork
from crid.net.rtnetlink import RouteSocket
from crid.net.ruleset import Bridge
from crid.net.table import Table
from crid.tasks import KeyedLock, Supervisor

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_BRIDGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_NOT_STARTED = NetworkCondition(False, "NotStarted", "the bridge network was not started")
_DEFAULT_NETWORK = IPv4Network("10.88.0.0/16")
_CLOSE_GRACE = 10.0
PATIENCE = 60.0
"""Seconds for what a pod wants of the kernel, with all that is before it. The kernel's lock over links may be held by somebody
who makes or removes thousands, or for ever: then whoever waits is told."""
_CONNECT_ATTEMPTS = 3
_CHECK_INTERVAL = 30.0
"""Seconds after which a look at the condition, as the kubelet takes at each Status, also looks after the bridge."""


class _Worker:
    """One thread with one route socket; what it is given runs in turn."""

    def __init__(self, name: str) -> None:
        self._threads = Threads(name, 1)
        self._route = RouteSocket()

    async def run(self, what: str, work: Callable[Concatenate[RouteSocket, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` returns on the thread, given the socket and the arguments. Raises DeadlineExceededError beginning
        with `what`."""
        return await self._threads.run(lambda: work(self._route, *args, **kwargs), timeout=PATIENCE, what=what)

    async def run_whenever(self, work: Callable[Concatenate[RouteSocket, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `run`, once the thread has done all that it was given before, however long that takes."""
        return await self._threads.run(lambda: work(self._route, *args, **kwargs), timeout=None, what="")

    def close(self) -> None:
        if self._threads.close(_CLOSE_GRACE):  # else the thread still has the socket
            self._route.close()


def default_bridge(network: Network) -> str:
    """Return the name of a bridge that was given none: crid0 for crid's default network, else one that follows from the
    network, so that two daemons with different networks do not meet in one bridge."""
    if network == _DEFAULT_NETWORK:
        return "crid0"
    return f"crid{zlib.crc32(network.network_address.packed):08x}" if network.version == 6 else f"crid{int(network[0]):08x}"


def _reason(error: CridError) -> str:
    """Return why there is no network, as one word of the condition."""
    if isinstance(error, NetworkError):
        return error.reason
    return "KernelSilent" if isinstance(error, DeadlineExceededError) else "NftablesFailed"


def _same(error: CridError) -> CridError:
    """Return the error for one more of those who waited for what failed."""
    kind = DeadlineExceededError if isinstance(error, DeadlineExceededError) else UnavailableError
    return kind(str(error))


class BridgeNetwork(NetworkPlugin):
    """A bridge called `bridge`, with one address of each of `networks` for a pod; files of its own are in `directory`.

    An empty name gives `default_bridge`. `start` comes first, `close` last. All methods belong to the event loop's thread.
    """

    def __init__(self, bridge: str, networks: Sequence[Network], directory: Path, *, map_host_ports: bool = True) -> None:
        """Raises InvalidArgumentError for a name or networks that cannot work."""
        if not networks:
            raise InvalidArgumentError(f"bridge {bridge}: has no network")
        bridge = bridge or default_bridge(networks[0])
        if not _BRIDGE_NAME.fullmatch(bridge):
            raise InvalidArgumentError(f"bridge {bridge!r}: a name has 1 to 15 letters, digits, '_', '-' or '.'")
        if len({network.version for network in networks}) != len(networks):
            raise InvalidArgumentError(f"bridge {bridge}: at most one network of each IP version")
        self._bridge = bridge
        self._networks = tuple(networks)
        self._journal = directory / "addresses"
        self._links = BridgeLinks(bridge, networks)
        self._table = Table(Bridge(bridge, self._networks))
        self.host_ports = HostPorts(self._table, enabled=map_host_ports)
        """The host ports of this table, which another network of the daemon may use, too."""
        self._condition = _NOT_STARTED
        self._bridge_index = 0
        self._ensured_at = 0.0
        self._supervisor = Supervisor(f"network {bridge}")
        self._pods = KeyedLock()
        self._ensuring = asyncio.Lock()
        self._attempts = 0
        self._failure: CridError | None = None
        self._recheck: asyncio.Task[object] | None = None
        self._removals: dict[str, asyncio.Future[None]] = {}
        self._removing = False
        self._opened = ExitStack()

    def __repr__(self) -> str:
        return f"<BridgeNetwork {self._bridge} {', '.join(map(str, self._networks))} ready={self._condition.ready}>"

    async def start(self) -> None:
        """Open the journal and make the bridge and the table. What the kernel or nft refuse shows in `condition`, and is
        tried again at each `attach`. Raises UnavailableError if the journal cannot be used."""
        with ExitStack() as opened:
            self._addresses = AddressStore(self._networks, self._journal)
            opened.callback(self._addresses.close)
            self._connecting = _Worker("net-connect")
            opened.callback(self._connecting.close)
            self._disconnecting = _Worker("net-disconnect")
            opened.callback(self._disconnecting.close)
            self._opened = opened.pop_all()
        try:
            await self._ensure()
        except CridError as error:
            logger.error("pods cannot be connected%s", fields(bridge=self._bridge, error=error))

    async def close(self, *, remove: bool = False) -> None:
        """Let running work end and stop. With `remove`, also delete the bridge and the table unless a pod has a link.

        Idempotent, and harmless if `start` did not run. Raises UnavailableError if the removal failed.
        """
        if self._condition is _NOT_STARTED:
            return
        await self._supervisor.close(_CLOSE_GRACE)
        self._condition = _NOT_STARTED
        with self._opened:
            if remove and await self._connecting.run(f"bridge {self._bridge}: removing it", self._links.remove_bridge):
                await self._table.remove()

    async def attach(self, pod: PodNetwork) -> NetworkAttachment:
        return await self._supervisor.run(self._attach(pod), f"attach {pod.sandbox_id}")

    async def detach(self, pod: PodNetwork) -> None:
        await self._supervisor.run(self._detach(pod.sandbox_id), f"detach {pod.sandbox_id}")

    async def retain(self, pods: Collection[PodNetwork]) -> None:
        await self.retain_links(frozenset(pod.sandbox_id for pod in pods))
        await self.host_ports.restore([(pod, self._bridge) for pod in pods])

    async def retain_links(self, sandbox_ids: Collection[str]) -> None:
        """Do `retain` for links and addresses alone, where somebody else knows the host ports."""
        what = f"bridge {self._bridge}: removing links of pods that are gone"
        kept = await self._connecting.run(what, self._links.retain, frozenset(sandbox_ids))
        for sandbox_id, addresses in kept.items():
            self._addresses.adopt(sandbox_id, addresses)
        self._addresses.retain(sandbox_ids)

    @property
    def name(self) -> str:
        """The bridge's name."""
        return self._bridge

    def has_journal(self) -> bool:
        """Whether an earlier daemon gave addresses that it may not have taken back."""
        try:
            return self._journal.read_bytes().count(b"\n") > 1
        except FileNotFoundError:
            return False

    @property
    def started(self) -> bool:
        """Whether `start` was called, and `close` not since."""
        return self._condition is not _NOT_STARTED

    def condition(self) -> NetworkCondition:
        overdue = asyncio.get_running_loop().time() - self._ensured_at >= _CHECK_INTERVAL
        if overdue or not self._condition.ready or self._table_changed():
            self._ensure_soon()
        return self._condition

    async def _attach(self, pod: PodNetwork) -> NetworkAttachment:
        async with self._pods.hold(pod.sandbox_id):
            if not self._condition.ready:
                await self._ensure()
            elif self._table_changed():
                self._ensure_soon()
            self.host_ports.claim(pod)
            try:
                trace.step("network", "giving addresses")
                addresses = self._addresses.allocate(pod.sandbox_id)
                ips = tuple(map(str, addresses))
                trace.step("network", "making links")
                await self._connect(pod, addresses)
                trace.step("network", "opening host ports")
                await self.host_ports.open(pod, ips, self._bridge)
            except BaseException as error:
                undoing = self._supervisor.start_logged(self._undo(pod.sandbox_id), f"undo attach {pod.sandbox_id}")
                if not isinstance(error, DeadlineExceededError):  # else the thread is still at it, and undoes it afterwards
                    await asyncio.wait((undoing,), timeout=PATIENCE)
                raise
            trace.step("network", "connected")
            return NetworkAttachment(ips=ips, interface=POD_INTERFACE)

    async def _undo(self, sandbox_id: str) -> None:
        """Remove what a failed `attach` made. If that fails too, the address stays taken, as a link may still have it."""
        try:
            await self.host_ports.close(sandbox_id)
            await self._connecting.run_whenever(self._links.remove, [sandbox_id])
            self._addresses.release(sandbox_id)
        except CridError as error:
            logger.error("a failed attach is left for detach to undo%s", fields(sandbox=sandbox_id, error=error))

    async def _connect(self, pod: PodNetwork, addresses: Sequence[Address]) -> None:
        """Make the pod's links; if somebody deleted the bridge, make that again first."""
        what = f"pod {pod.title}: making its links"
        for _ in range(_CONNECT_ATTEMPTS):
            try:
                index = self._bridge_index
                namespace = pod.namespace_path
                return await self._connecting.run(what, self._links.connect, index, pod.sandbox_id, namespace, addresses)
            except BridgeGoneError:
                logger.warning("the bridge was deleted, making it again%s", fields(bridge=self._bridge))
                await self._ensure()
        raise UnavailableError(f"pod {pod.sandbox_id}: bridge {self._bridge} is deleted again and again")

    async def _detach(self, sandbox_id: str) -> None:
        async with self._pods.hold(sandbox_id):
            trace.step("network", "closing host ports")
            await self.host_ports.close(sandbox_id)
            trace.step("network", "removing links")
            removed = self._removals[sandbox_id] = asyncio.get_running_loop().create_future()
            if not self._removing:
                self._removing = True
                self._supervisor.start_logged(self._remove_links(), f"remove links of {self._bridge}")
            await removed
            trace.step("network", "taking addresses back")
            self._addresses.release(sandbox_id)

    async def _remove_links(self) -> None:
        """Remove the links of all who wait, together, until nobody waits."""
        try:
            while self._removals:
                batch, self._removals = self._removals, {}
                try:
                    what = f"bridge {self._bridge}: removing links of {len(batch)} pods"
                    await self._disconnecting.run(what, self._links.remove, list(batch))
                except BaseException as error:
                    for future in batch.values():
                        future.set_exception(_same(error) if isinstance(error, CridError) else error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    for future in batch.values():
                        future.set_result(None)
        finally:
            self._removing = False

    async def _ensure(self) -> None:
        """Make what pods are connected to, as far as it is not there. Of those that wait one does it for all: a kernel that
        does not answer would else hold them up one after the other. Raises UnavailableError, also seen in `condition`."""
        asked = self._attempts
        async with self._ensuring:
            if self._attempts != asked:  # one has begun since
                if self._failure is not None:
                    raise _same(self._failure)
                return
            self._attempts += 1
            self._failure = UnavailableError(f"bridge {self._bridge}: nobody has looked after it to the end")
            try:
                found = await self._connecting.run(f"bridge {self._bridge}: looking after it", self._links.ensure)
                self._bridge_index = found.index
                if await self._table.ensure(Bridge(self._bridge, self._networks, found.strangers)):
                    logger.info("nftables table is set up%s", fields(bridge=self._bridge))
            except CridError as error:
                self._condition, self._failure = NetworkCondition(False, _reason(error), str(error)), error
                raise
            self._condition, self._failure = NetworkCondition(True), None
            self._ensured_at = asyncio.get_running_loop().time()

    def _ensure_soon(self) -> None:
        """Have `_ensure` run beside everything else, once at a time."""
        if self._condition is not _NOT_STARTED and (self._recheck is None or self._recheck.done()):
            self._recheck = self._supervisor.start_logged(self._ensure(), f"check network {self._bridge}")

    def _table_changed(self) -> bool:
        try:
            return self._condition.ready and self._table.changed()
        except UnavailableError:
            return True
