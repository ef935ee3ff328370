"""What there is of pods' networks on this host, by whoever connected them: read, never changed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crid.errors import UnavailableError
from crid.net.addresses import Address, Network
from crid.net.cni_cache import cache_in
from crid.net.ipam import read_journal
from crid.net.links import BridgeLinks, PodLink, host_end
from crid.net.rtnetlink import RouteSocket
from crid.net.table import listed_ports


@dataclass(frozen=True, slots=True)
class FoundLink:
    """The host's end of a pod's link. Without an alias `sandbox_id` is only the beginning of an id."""

    name: str
    sandbox_id: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that bears the id of a pod."""

    links: tuple[FoundLink, ...] = ()
    leases: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    """Addresses of the built-in network, by pod."""
    attachments: frozenset[str] = frozenset()
    """The pods that are, or may be, attached to CNI networks."""
    ports: tuple[tuple[str, str], ...] = ()
    """The pod and PORT/PROTOCOL of each host port in the table."""
    maps_host_ports: bool = True


async def take_inventory(bridge: str, networks: Sequence[Network], directory: Path, *, maps_host_ports: bool) -> Inventory:
    """Return what there is. `directory` is the networks' own. Raises UnavailableError, also for a damaged journal."""
    links = await asyncio.to_thread(_links, BridgeLinks(bridge, networks))
    return Inventory(
        links=tuple(FoundLink(host_end(link.sandbox_id), link.sandbox_id, link.addresses) for link in links),
        leases=read_journal(directory / "addresses"),
        attachments=frozenset(cache_in(directory / "cni").holders()),
        ports=tuple(await listed_ports(bridge)),
        maps_host_ports=maps_host_ports,
    )


def _links(links: BridgeLinks) -> list[PodLink]:
    try:
        with RouteSocket() as route:
            return links.pods(route)
    except OSError as error:
        raise UnavailableError(f"links of pods: {error}") from error
