"""Host ports: who has which port of the host, and what it takes to open and to close one.

A port is claimed before its pod is connected, so that of two pods which want the same one the second is refused, with
the first one's name, before anything was done for it. The book is kept in memory alone: after a restart the pods' own
records say which ports they have.
"""

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address

from crid.errors import CridError, FailedPreconditionError
from crid.log import fields
from crid.net import conntrack
from crid.net.addresses import Address
from crid.net.plugin import PodNetwork, PortMapping
from crid.net.ruleset import PodPorts
from crid.net.table import Table

logger = logging.getLogger(__name__)


class PortBook:
    """Which pod has which port of the host. Two mappings conflict if one packet could be meant for both."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, int], list[tuple[PortMapping, PodNetwork]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._claims.values()))

    def claim(self, pod: PodNetwork) -> None:
        """Give the pod its ports, all or none. Raises FailedPreconditionError naming the port and who has it."""
        for mapping in pod.port_mappings:
            for other, owner in self._claims.get((mapping.protocol, mapping.host_port), []):
                if owner.sandbox_id != pod.sandbox_id and (
                    other.host_ip == mapping.host_ip or not other.host_ip or not mapping.host_ip
                ):
                    raise FailedPreconditionError(f"pod {pod.title}: host port {mapping} is in use by pod {owner.title}")
        self.release(pod.sandbox_id)
        for mapping in pod.port_mappings:
            self._claims.setdefault((mapping.protocol, mapping.host_port), []).append((mapping, pod))

    def release(self, sandbox_id: str) -> None:
        """Take back the pod's ports. Idempotent."""
        for key, claims in list(self._claims.items()):
            if kept := [claim for claim in claims if claim[1].sandbox_id != sandbox_id]:
                self._claims[key] = kept
            else:
                del self._claims[key]


class HostPorts:
    """Opens and closes the host ports of pods in `table`; with `enabled` False it only keeps the book.

    Raises UnavailableError if the table cannot be written.
    """

    def __init__(self, table: Table, *, enabled: bool = True) -> None:
        self._table = table
        self._enabled = enabled
        self._book = PortBook()

    def claim(self, pod: PodNetwork) -> None:
        """Reserve the pod's ports. Raises FailedPreconditionError naming the port and who has it."""
        self._book.claim(pod)

    async def open(self, pod: PodNetwork, ips: Sequence[str], interface: str) -> None:
        """Lead the pod's ports to its addresses; `interface` is where the host reaches it."""
        if self._enabled and pod.port_mappings:
            ports = pod_ports(pod, ips, interface)
            await self._table.open(ports)
            await _forget_connections(ports)

    async def close(self, sandbox_id: str) -> None:
        """Close the pod's ports and take them back. Idempotent."""
        if (ports := await self._table.close(sandbox_id)) is not None:
            await _forget_connections(ports)
        self._book.release(sandbox_id)

    async def look_after(self) -> None:
        """Write the table again if somebody changed it. Does nothing where it was never needed."""
        if self._table.in_use and self._table.changed():
            await self._table.ensure()

    async def restore(self, pods: Collection[tuple[PodNetwork, str]]) -> None:
        """Open exactly the ports of these pods, each with the interface where the host reaches it."""
        self._book = PortBook()
        ports = []
        for pod, interface in pods:
            try:
                self._book.claim(pod)
            except CridError as error:
                logger.error("a host port has two owners%s", fields(error=error))
                continue
            if self._enabled and pod.port_mappings and interface:
                ports.append(pod_ports(pod, pod.attachment.ips, interface))
        if ports or await self._table.is_there():
            await self._table.restore(ports)


def pod_ports(pod: PodNetwork, ips: Sequence[str], interface: str) -> PodPorts:
    """Return what the table has to know of the pod."""
    return PodPorts(pod.sandbox_id, pod.port_mappings, tuple(map(ip_address, ips)), interface)


async def _forget_connections(ports: PodPorts) -> None:
    """Have the kernel forget the UDP connections to these ports: it would go on sending their packets where it did
    before. A failure is logged, for new clients are served all the same."""
    wanted = [mapping for mapping in ports.mappings if mapping.protocol == "udp"]
    if not wanted:
        return
    try:
        await asyncio.to_thread(conntrack.forget_udp, list(_destinations(wanted)))
    except (OSError, RuntimeError) as error:  # the latter where the process may have no thread more
        logger.warning("old UDP connections may still lead elsewhere%s", fields(sandbox=ports.sandbox_id, error=error))


def _destinations(mappings: Collection[PortMapping]) -> Iterator[tuple[Address | None, int]]:
    for mapping in mappings:
        yield mapping.host_ip, mapping.host_port
