"""A network that only keeps book: for tests of whatever needs pods with addresses but no kernel.

It passes the contract suite of `BridgeNetwork`. A test can make it fail, and look at what is attached.
"""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Network

from crid.errors import ResourceExhaustedError
from crid.model.sandbox import NetworkAttachment
from crid.net.addresses import Address, Network
from crid.net.hostports import PortBook
from crid.net.plugin import NetworkCondition, NetworkPlugin, PodNetwork


class FakeNetwork(NetworkPlugin):
    """Gives one address of each of `networks`. `attached` is what pods hold; the next `attach` or `detach` raises
    `attach_error` or `detach_error` where a test sets it, with nothing changed."""

    def __init__(self, networks: Sequence[Network] = (IPv4Network("10.88.0.0/16"),)) -> None:
        self.attached: dict[str, tuple[Address, ...]] = {}
        self.attach_error: Exception | None = None
        self.detach_error: Exception | None = None
        self.conditions = NetworkCondition(True)
        self._book = PortBook()
        self._networks = tuple(networks)
        self._last = dict.fromkeys(self._networks, 1)

    async def attach(self, pod: PodNetwork) -> NetworkAttachment:
        error, self.attach_error = self.attach_error, None
        if error:
            raise error
        self._book.claim(pod)
        self.attached[pod.sandbox_id] = addresses = tuple(self._take(network) for network in self._networks)
        return NetworkAttachment(ips=tuple(map(str, addresses)), interface="eth0")

    async def detach(self, pod: PodNetwork) -> None:
        error, self.detach_error = self.detach_error, None
        if error:
            raise error
        self._book.release(pod.sandbox_id)
        self.attached.pop(pod.sandbox_id, None)

    async def retain(self, pods: Collection[PodNetwork]) -> None:
        self._book = PortBook()
        for pod in pods:
            self._book.claim(pod)
        for sandbox_id in self.attached.keys() - {pod.sandbox_id for pod in pods}:
            del self.attached[sandbox_id]

    def condition(self) -> NetworkCondition:
        return self.conditions

    def _take(self, network: Network) -> Address:
        held = {address for addresses in self.attached.values() for address in addresses}
        count = network.num_addresses - 3  # all but the network's own, the gateway's and the last
        for step in range(count):
            offset = 2 + (self._last[network] - 1 + step) % count
            if network[offset] not in held:
                self._last[network] = offset
                return network[offset]
        raise ResourceExhaustedError(f"network {network}: all {count} addresses for pods are in use")
