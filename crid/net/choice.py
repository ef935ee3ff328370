"""Which network a pod gets: CNI's where `network_dir` holds a configuration, else the built-in one.

The choice is made for each new pod. A pod keeps what it has and is detached by whoever attached it, which CNI's cache
knows. The bridge is made only when a pod needs it, or when an earlier daemon gave addresses: a node with CNI has none.
Host ports are one book and one table, whoever connects the pods.
"""

import asyncio
from collections.abc import Collection, Sequence

from crid.model.sandbox import NetworkAttachment
from crid.net.bridge import BridgeNetwork
from crid.net.cni import CniNetwork
from crid.net.plugin import NetworkCondition, NetworkPlugin, PodNetwork
from crid.tasks import Supervisor

_CLOSE_GRACE = 10.0
_STARTING = NetworkCondition(False, "NotStarted", "the bridge network is being started")


class ChosenNetwork(NetworkPlugin):
    """The built-in network and CNI as one. `start` comes first, `close` last."""

    def __init__(self, bridge: BridgeNetwork, cni: CniNetwork) -> None:
        self._bridge = bridge
        self._cni = cni
        self._starting = asyncio.Lock()
        self._supervisor = Supervisor("network")
        self._upkeep: asyncio.Task[object] | None = None

    def __repr__(self) -> str:
        return f"<ChosenNetwork {self._cni if self._cni.configured else self._bridge}>"

    async def start(self) -> None:
        """Start what pods may need. Raises UnavailableError if the bridge's journal cannot be used."""
        await self._cni.start()
        if not self._cni.configured or self._bridge.has_journal():
            await self._start_bridge()

    async def close(self) -> None:
        """Let running work end and stop. Pods keep their network. Idempotent."""
        await self._supervisor.close(_CLOSE_GRACE)
        await self._cni.close()
        await self._bridge.close()

    async def remove(self) -> None:
        """Let running work end, stop, and delete the bridge and the table, unless a pod still has a link."""
        await self._supervisor.close(_CLOSE_GRACE)
        await self._cni.close()
        await self._start_bridge()
        await self._bridge.close(remove=True)

    async def attach(self, pod: PodNetwork) -> NetworkAttachment:
        if self._cni.configured:
            return await self._cni.attach(pod)
        await self._start_bridge()
        return await self._bridge.attach(pod)

    async def detach(self, pod: PodNetwork) -> None:
        if self._cni.holds(pod.sandbox_id) or not self._bridge.started:
            await self._cni.detach(pod)
        if self._bridge.started:
            await self._bridge.detach(pod)

    async def retain(self, pods: Collection[PodNetwork]) -> None:
        ours = [pod for pod in pods if not self._cni.holds(pod.sandbox_id)]
        if ours:
            await self._start_bridge()
        if self._bridge.started:
            await self._bridge.retain_links(frozenset(pod.sandbox_id for pod in ours))
        names = [self._bridge.name if pod in ours else self._cni.port_interface(pod) for pod in pods]
        await self._bridge.host_ports.restore(list(zip(pods, names, strict=True)))
        self._cni.collect(pods)

    def condition(self) -> NetworkCondition:
        if not self._cni.configured and not self._bridge.started:
            self._keep_up()
            return _STARTING
        built_in = self._bridge.condition() if self._bridge.started else _STARTING
        cni = self._cni.condition()
        if not self._bridge.started:
            self._keep_up()
        return cni if self._cni.configured else built_in

    def use_ranges(self, subnets: Sequence[str]) -> None:
        self._cni.use_ranges(subnets)

    def _keep_up(self) -> None:
        """Have what nobody else looks after looked after, once at a time."""
        if self._upkeep is None or self._upkeep.done():
            work = self._bridge.host_ports.look_after() if self._cni.configured else self._start_bridge()
            self._upkeep = self._supervisor.start_logged(work, "look after the network")

    async def _start_bridge(self) -> None:
        if not self._bridge.started:
            async with self._starting:
                if not self._bridge.started:
                    await self._bridge.start()
