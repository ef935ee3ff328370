"""The links of one bridge: the bridge itself, and a veth pair for each pod.

The kernel is the record. The host's end is called after the pod's id and carries an alias that names the bridge, the pod
and its addresses; so a link of somebody else is never taken for ours, two daemons do not touch each other's, and who
holds which address can be read back if the journal of `crid.net.ipam` is lost. All functions here block; each works on
the route socket of its caller's thread.
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from crid.errors import UnavailableError
from crid.linux.namespaces import in_network_namespace, sysctl_path, write_sysctl
from crid.log import fields
from crid.net import rtnetlink
from crid.net.addresses import Address, Interface, Network, gateway, interface, mac_address
from crid.net.rtnetlink import Link, Request, Route, RouteError, RouteSocket

logger = logging.getLogger(__name__)

POD_INTERFACE = "eth0"
_LOOPBACK_INDEX = 1
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_ALIAS = re.compile(r"crid:([^:]+):([^:]+):([0-9a-f:.,]+)")
_HOST_END = re.compile(r"veth([0-9a-f]{11})")
_DEFAULT_MTU = 1500
_PORTS_OF_STRANGERS = ("veth", "tun")
"""Kinds of interface that containers and virtual machines have. A bridge with any other port leads to the world."""


class NetworkError(UnavailableError):
    """Pods cannot be connected; `reason` is the CamelCase word of the condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BridgeGoneError(Exception):
    """The bridge was deleted, or deleted and made again, since it was last looked up."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The bridge's index, and the names of the bridges of other container networks."""

    index: int
    strangers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PodLink:
    """The host's end of a pod's veth pair. After a crash between two requests `sandbox_id` is only the id's beginning."""

    index: int
    sandbox_id: str
    addresses: tuple[Address, ...]


def host_end(sandbox_id: str) -> str:
    """Return the name of the host's end: `veth` and the first 11 digits of the id, 15 characters being the limit."""
    return f"veth{sandbox_id[:11]}"


class BridgeLinks:
    """Makes and removes the links of `bridge`, whose own address is the gateway of each of `networks`."""

    def __init__(self, bridge: str, networks: Sequence[Network]) -> None:
        self._bridge = bridge
        self._networks = tuple(networks)
        self._mtu = _DEFAULT_MTU

    def ensure(self, route: RouteSocket) -> Surroundings:
        """Make the bridge, or take over the one of a former daemon; plug in pods that lost theirs; enable forwarding. Return
        what is there then.

        Raises NetworkError if the name is another link's, if the bridge has other addresses, or if a network is
        reached by another route already.
        """
        try:
            link = route.link(self._bridge)
            if link is not None and link.kind != "bridge":
                raise NetworkError("BridgeConflict", f"bridge {self._bridge}: an interface of kind {link.kind!r} has this name")
            missing = self._missing_addresses(route, link)
            known = route.routes()
            if missing:
                self._refuse_overlap(known, link)
            if link is None:
                route.send(rtnetlink.create_bridge(self._bridge, mac_address(gateway(self._networks[0]).ip)))
                link = route.link(self._bridge)
                assert link is not None
                self._skip_address_detection()
            self._ignore_router_advertisements()
            route.send(*(rtnetlink.add_address(link.index, address) for address in missing))
            route.send(rtnetlink.set_up(link.index))
            self._enable_forwarding()
            links = route.links()
            self._plug_in(route, links, link.index)
            ways_out = {way.link for way in known if not way.destination.prefixlen}
            self._mtu = min((item.mtu for item in links if item.index in ways_out and item.mtu), default=_DEFAULT_MTU)
            return Surroundings(link.index, _strangers(links, {link.index, *ways_out}))
        except OSError as error:
            raise NetworkError("KernelRefused", f"bridge {self._bridge}: {error}") from error

    def connect(
        self, route: RouteSocket, bridge_index: int, sandbox_id: str, namespace: str, addresses: Sequence[Address]
    ) -> None:
        """Give the pod's namespace `eth0` with `addresses` and default routes, and bring up `lo`.

        Raises UnavailableError, which may leave a link for `remove`, and BridgeGoneError, which leaves none.
        """
        name = host_end(sandbox_id)
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UnavailableError(f"pod {sandbox_id}: network namespace {namespace}: {error.strerror}") from error
        try:
            mac = mac_address(addresses[0])
            pair = rtnetlink.create_veth(
                name, master=bridge_index, peer=POD_INTERFACE, peer_mac=mac, namespace=descriptor, mtu=self._mtu
            )
            route.send(pair)
        except OSError as error:
            if _index_of(self._bridge) != bridge_index:
                raise BridgeGoneError from error
            raise UnavailableError(f"pod {sandbox_id}: {error}") from error
        finally:
            os.close(descriptor)
        try:
            route.send(rtnetlink.set_alias(name, f"crid:{self._bridge}:{sandbox_id}:{','.join(map(str, addresses))}"))
            in_network_namespace(namespace, lambda: self._configure_pod(addresses))
        except OSError as error:
            raise UnavailableError(f"pod {sandbox_id}: {error}") from error

    def remove(self, route: RouteSocket, sandbox_ids: Collection[str]) -> None:
        """Delete the links of these pods, all for the price of one. Idempotent. Raises UnavailableError."""
        bridge_index = _index_of(self._bridge)
        try:
            found = []
            for sandbox_id in sandbox_ids:
                link = route.link(host_end(sandbox_id))
                if link is None:
                    continue
                owned = self._as_pod_link(link, bridge_index)
                if owned and sandbox_id.startswith(owned.sandbox_id):
                    found.append(link.index)
                else:
                    logger.warning("leaving alone a link of somebody else%s", fields(link=link.name, sandbox=sandbox_id))
            _delete(route, found)
        except OSError as error:
            raise UnavailableError(f"bridge {self._bridge}: links of pods: {error}") from error

    def retain(self, route: RouteSocket, sandbox_ids: Collection[str]) -> dict[str, tuple[Address, ...]]:
        """Delete the links of all other pods; return the addresses that those of `sandbox_ids` have by their links."""
        prefixes = {sandbox_id[:11] for sandbox_id in sandbox_ids}
        kept: dict[str, tuple[Address, ...]] = {}
        try:
            gone = []
            for pod in self.pods(route):
                if pod.sandbox_id in sandbox_ids:
                    kept[pod.sandbox_id] = pod.addresses
                elif pod.addresses or pod.sandbox_id not in prefixes:
                    gone.append(pod.index)
            _delete(route, gone)
        except OSError as error:
            raise UnavailableError(f"bridge {self._bridge}: links of pods: {error}") from error
        return kept

    def remove_bridge(self, route: RouteSocket) -> bool:
        """Delete the bridge if no pod has a link, and return whether none has."""
        try:
            if self.pods(route):
                return False
            link = route.link(self._bridge)
            _delete(route, [link.index] if link else [])
        except OSError as error:
            raise UnavailableError(f"bridge {self._bridge}: {error}") from error
        return True

    def _plug_in(self, route: RouteSocket, links: Sequence[Link], bridge_index: int) -> None:
        """Make ports of the bridge of the pods' links that are of none: their bridge was deleted. Each time that it is looked
        after, since a daemon may have ended between making it again and this, or somebody else have made it again."""
        for link in links:
            if not link.master and self._as_pod_link(link, bridge_index):
                _send_if_there(route, rtnetlink.set_master(link.index, bridge_index), rtnetlink.allow_hairpin(link.index))

    def _refuse_overlap(self, routes: Sequence[Route], bridge: Link | None) -> None:
        """Raise NetworkError if this host reaches a part of our networks, or our networks as a part, in another way."""
        for known in routes:
            if not known.destination.prefixlen or (bridge is not None and known.link == bridge.index):
                continue
            for network in self._networks:
                if known.destination.version == network.version and known.destination.overlaps(network):
                    by = _name_of(known.link)
                    raise NetworkError(
                        "SubnetConflict",
                        f"bridge {self._bridge}: network {network} overlaps {known.destination}, which this host"
                        f" reaches by {by}; choose another crid.network.subnet",
                    )

    def _missing_addresses(self, route: RouteSocket, bridge: Link | None) -> list[Interface]:
        """Return which of its addresses the bridge lacks. Raises NetworkError if it has others."""
        wanted = [gateway(network) for network in self._networks]
        present = route.addresses(bridge.index) if bridge else []
        for ip, prefix in present:
            if not ip.is_link_local and not any((ip, prefix) == (own.ip, own.network.prefixlen) for own in wanted):
                raise NetworkError(
                    "BridgeConflict",
                    f"bridge {self._bridge} exists with address {ip}/{prefix} instead of"
                    f" {', '.join(map(str, wanted))}; delete it or choose another crid.network.bridge",
                )
        return [own for own in wanted if not any(ip == own.ip for ip, _ in present)]

    def _enable_forwarding(self) -> None:
        for version in {network.version for network in self._networks}:
            name = _FORWARDING[version]
            if Path(sysctl_path(name)).read_text().strip() == "0":
                if version == 6:
                    _keep_router_advertisements()
                write_sysctl(name, "1")

    def _ignore_router_advertisements(self) -> None:
        """Let no pod give the host an address or a route by claiming to be a router (RFC 4861): all at the bridge are pods."""
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            write_sysctl(f"net/ipv6/conf/{self._bridge}/accept_ra", "0")

    def _skip_address_detection(self) -> None:
        """Let the bridge use its link-local address at once: until it may, the host cannot ask for a pod's MAC address, and
        IPv6 packets from its other addresses to pods are lost. Nobody else could have made this address."""
        if any(network.version == 6 for network in self._networks):
            write_sysctl(f"net/ipv6/conf/{self._bridge}/dad_transmits", "0")

    def _configure_pod(self, addresses: Sequence[Address]) -> None:
        """Configure the pod's end; runs within the pod's namespace."""
        with RouteSocket() as route:
            index = socket.if_nametoindex(POD_INTERFACE)
            route.send(rtnetlink.set_up(_LOOPBACK_INDEX), rtnetlink.set_up(index))
            for address, network in zip(addresses, self._networks, strict=True):
                route.send(
                    rtnetlink.add_address(index, interface(address, network)),
                    rtnetlink.add_default_route(index, gateway(network).ip),
                )

    def pods(self, route: RouteSocket) -> list[PodLink]:
        """Return the links of all pods at this bridge. Raises UnavailableError, OSError."""
        bridge_index = _index_of(self._bridge)
        found = (self._as_pod_link(link, bridge_index) for link in route.links())
        return [pod for pod in found if pod]

    def _as_pod_link(self, link: Link, bridge_index: int) -> PodLink | None:
        """Return whose link it is; None if it is not the link of a pod at this bridge.

        A port of the bridge with a name like ours but no alias is one that a crash left before it got its alias.
        """
        if not (named := _HOST_END.fullmatch(link.name)) or link.kind != "veth":
            return None
        if alias := _ALIAS.fullmatch(link.alias):
            bridge, sandbox_id, addresses = alias.groups()
            try:
                held = tuple(map(ip_address, addresses.split(",")))
            except ValueError:  # written by somebody else
                return None
            return PodLink(link.index, sandbox_id, held) if bridge == self._bridge else None
        if link.alias or not bridge_index or link.master != bridge_index:
            return None
        return PodLink(link.index, named[1], ())


def _strangers(links: Sequence[Link], known: Collection[int]) -> tuple[str, ...]:
    """Return the bridges of other container networks: those whose ports are all containers or virtual machines, but none
    of `known`, and so none by which this host reaches the world."""
    bridges = {link.index: link.name for link in links if link.kind == "bridge" and link.index not in known}
    for link in links:
        if link.kind not in _PORTS_OF_STRANGERS:
            bridges.pop(link.master, None)
    return tuple(sorted(bridges.values()))


def _keep_router_advertisements() -> None:
    """Let interfaces that learn their routes from routers go on: a host that forwards does so only with accept_ra 2."""
    for path in Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra"):
        if path.parent.name not in ("all", "default") and path.read_text().strip() == "1":
            path.write_text("2")


def _delete(route: RouteSocket, indexes: Sequence[int]) -> None:
    """Delete links by their indexes; those that are gone already are no error.

    The kernel waits some 40 ms for its readers (RCU) at each deletion, but only once for a whole device group; the
    group's number is random, so that nobody else's link is in it.
    """
    if len(indexes) < 2:
        requests = [rtnetlink.delete_link(index) for index in indexes]
    else:
        group = secrets.randbelow(1 << 30) + (1 << 30)
        requests = [*(rtnetlink.set_group(index, group) for index in indexes), rtnetlink.delete_group(group)]
    _send_if_there(route, *requests)


def _send_if_there(route: RouteSocket, *requests: Request) -> None:
    """Send requests about links, of which each may be gone."""
    for request in requests:
        try:
            route.send(request)
        except RouteError as error:
            if error.errno != errno.ENODEV:
                raise


def _index_of(name: str) -> int:
    """Return the index of an interface, 0 if there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _name_of(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"
