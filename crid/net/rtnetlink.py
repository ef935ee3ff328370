"""rtnetlink(7) without ceremony: pyroute2's messages on plain blocking sockets.

pyroute2 encodes and decodes; sending is ours, since a pod needs a fresh socket in its own namespace, and pyroute2's
`IPRoute` costs an event loop and about a millisecond there (its `NetNS` forks, which the daemon must never do), where
a plain socket costs 30 microseconds. A socket belongs for ever to the namespace of the thread that opened it.

A function named after what it wants returns a Request; RouteSocket.send runs them in order and stops at the first that
the kernel refuses. Nothing here knows of pods.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, ip_address, ip_network
from types import TracebackType
from typing import Any, Self

from crid.net.addresses import Address, Interface, Network
from crid.net.messages import AddressMessage, LinkMessage, RouteMessage

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_HEADER = struct.Struct("=IHHII")
_IFF_UP = 0x1
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x2, 0x80
_RTEXT_FILTER_SKIP_STATS = 0x8
_MAIN_TABLE, _LOCAL_TABLE, _UNICAST, _LOCAL, _PROTO_STATIC = 254, 255, 1, 2, 4
_RECEIVE_SIZE = 1 << 16
TIMEOUT = 30.0
"""Seconds in which the kernel must answer. It has answered when a request is sent, unless it runs out of memory."""

_DUMPS = 10
"""How often a list is asked for at most, where something changes each time while the kernel writes it."""

_HAIRPIN = (
    "IFLA_LINKINFO",
    {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]})]},
)


class RouteError(OSError):
    """The kernel refused a request; `strerror` holds what was asked for and the kernel's own words."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message for the kernel; `purpose` says what for, in an error's text."""

    kind: int
    flags: int
    message: Any
    purpose: str


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface, as far as crid looks at it; `master` is the index of the bridge it is a port of, or 0. A
    physical interface has no `kind`."""

    index: int
    name: str
    kind: str
    master: int
    alias: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Route:
    """A destination that leaves through the interface with index `link`."""

    destination: Network
    link: int


def _link(**fields: Any) -> Any:
    message = LinkMessage()
    attributes = fields.pop("attrs", [])
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    return message


def create_bridge(name: str, mac: str) -> Request:
    """Create a bridge that is up. Its own MAC address keeps it from taking that of whichever port has the lowest."""
    info = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
    attributes = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), ("IFLA_LINKINFO", info)]
    message = _link(flags=_IFF_UP, change=_IFF_UP, attrs=attributes)
    return Request(_RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, message, f"create bridge {name}")


def create_veth(name: str, *, master: int, peer: str, peer_mac: str, namespace: int, mtu: int = 1500) -> Request:
    """Create a veth pair: `name` here, a port of `master` and up; `peer` in the namespace of descriptor `namespace`, down.

    The kernel does not bring up an end whose other end does not exist yet (ENOTCONN), so the peer has to wait.
    """
    peer_attributes = [("IFLA_IFNAME", peer), ("IFLA_ADDRESS", peer_mac), ("IFLA_MTU", mtu), ("IFLA_NET_NS_FD", namespace)]
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": peer_attributes})]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    attributes = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu), ("IFLA_MASTER", master), ("IFLA_LINKINFO", info)]
    message = _link(flags=_IFF_UP, change=_IFF_UP, attrs=attributes)
    return Request(_RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, message, f"create veth {name}")


def set_alias(name: str, alias: str) -> Request:
    """Set the alias, at most 255 bytes, of a bridge's port, and let the port take back what it sent (hairpin)."""
    message = _link(attrs=[("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias), _HAIRPIN])
    return Request(_RTM_NEWLINK, 0, message, f"set the alias of {name}")


def set_master(index: int, master: int) -> Request:
    """Make the interface a port of `master`."""
    message = _link(index=index, attrs=[("IFLA_MASTER", master)])
    return Request(_RTM_NEWLINK, 0, message, f"plug interface {index} into its bridge")


def allow_hairpin(index: int) -> Request:
    """Let a bridge's port take back what it sent. A pod that reaches itself by a host port needs it where the kernel's
    br_netfilter is loaded: bridged packets are then translated on their way, and never leave the bridge."""
    return Request(_RTM_NEWLINK, 0, _link(index=index, attrs=[_HAIRPIN]), f"allow interface {index} hairpins")


def set_group(index: int, group: int) -> Request:
    """Put the interface into a device group."""
    message = _link(index=index, attrs=[("IFLA_GROUP", group)])
    return Request(_RTM_NEWLINK, 0, message, f"set the group of interface {index}")


def set_up(index: int) -> Request:
    """Bring the interface up."""
    return Request(_RTM_NEWLINK, 0, _link(index=index, flags=_IFF_UP, change=_IFF_UP), f"bring interface {index} up")


def delete_link(index: int) -> Request:
    """Delete the interface, and its peer with it."""
    return Request(_RTM_DELLINK, 0, _link(index=index), f"delete interface {index}")


def delete_group(group: int) -> Request:
    """Delete all interfaces of a group, for the price of one: the kernel waits for its readers (RCU) only once."""
    return Request(_RTM_DELLINK, 0, _link(attrs=[("IFLA_GROUP", group)]), f"delete the interfaces of group {group}")


def add_address(index: int, address: Interface) -> Request:
    """Add an address with its prefix. An IPv6 one is usable at once: crid gives each only once, so nothing is probed."""
    message = AddressMessage()
    message["family"] = _family(address.ip)
    message["prefixlen"] = address.network.prefixlen
    message["index"] = index
    text = str(address.ip)
    message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    if isinstance(address, IPv4Interface):
        message["attrs"].append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    else:
        message["attrs"].append(("IFA_FLAGS", _IFA_F_NODAD | _IFA_F_PERMANENT))
    return Request(_RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, message, f"add address {address}")


def add_default_route(index: int, gateway: Address) -> Request:
    """Add a default route of the gateway's family."""
    message = RouteMessage()
    message["family"] = _family(gateway)
    message["table"], message["proto"], message["type"] = _MAIN_TABLE, _PROTO_STATIC, _UNICAST
    message["attrs"] = [("RTA_GATEWAY", str(gateway)), ("RTA_OIF", index)]
    return Request(_RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_EXCL, message, f"add the default route by {gateway}")


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


class RouteSocket:
    """A blocking route socket in the network namespace of the thread that makes it. One thread at a time may use it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.bind((0, 0))
        self._socket.settimeout(TIMEOUT)
        self._sequence = 0
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def send(self, *requests: Request) -> None:
        """Have the kernel do `requests` in order. Raises RouteError for the first it refuses; the rest is not sent."""
        for request in requests:
            for _ in self._exchange(request, _NLM_F_ACK):
                pass

    def link(self, name: str) -> Link | None:
        """Return the interface called `name`, None if there is none."""
        attributes = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)]
        request = Request(_RTM_GETLINK, 0, _link(attrs=attributes), f"look up interface {name}")
        try:
            found = list(self._exchange(request, _NLM_F_ACK))
        except RouteError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _decode_link(found[0])

    def links(self) -> list[Link]:
        """Return all interfaces."""
        attributes = [("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)]
        request = Request(_RTM_GETLINK, 0, _link(attrs=attributes), "list interfaces")
        return [_decode_link(data) for data in self._dump(request)]

    def addresses(self, index: int) -> list[tuple[Address, int]]:
        """Return the addresses, each with its prefix length, of the interface with this index."""
        request = Request(_RTM_GETADDR, 0, AddressMessage(), "list addresses")
        found = []
        for data in self._dump(request):
            message = _decode(AddressMessage, data)
            if message["index"] == index:
                text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                found.append((ip_address(text), int(message["prefixlen"])))
        return found

    def routes(self) -> list[Route]:
        """Return where this host sends packets for networks and addresses that it knows; a default route is one to all."""
        found = []
        for family, everything in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            message = RouteMessage()
            message["family"] = family
            for data in self._dump(Request(_RTM_GETROUTE, 0, message, "list routes")):
                route = _decode(RouteMessage, data)
                if (route["table"], route["type"]) in ((_MAIN_TABLE, _UNICAST), (_LOCAL_TABLE, _LOCAL)):
                    destination = ip_network((route.get_attr("RTA_DST") or everything, route["dst_len"]))
                    found.append(Route(destination, int(route.get_attr("RTA_OIF") or 0)))
        return found

    def route_to(self, address: Address) -> int:
        """Return the index of the interface by which this host reaches `address`. Raises RouteError if it does not."""
        message = RouteMessage()
        message["family"], message["dst_len"] = _family(address), address.max_prefixlen
        message["attrs"] = [("RTA_DST", str(address))]
        found = list(self._exchange(Request(_RTM_GETROUTE, 0, message, f"look up the route to {address}"), _NLM_F_ACK))
        return int(_decode(RouteMessage, found[0]).get_attr("RTA_OIF") or 0)

    def _dump(self, request: Request) -> list[bytes]:
        """Return all that the kernel lists. Where something changed meanwhile it may have left some out, and says so: it
        is asked again then, and only on a host that never rests is the last of its lists taken as it is. Raises RouteError."""
        found: list[bytes] = []
        for _ in range(_DUMPS):
            self._interrupted = False
            found = list(self._exchange(request, _NLM_F_DUMP))
            if not self._interrupted:
                break
        return found

    def _exchange(self, request: Request, flags: int) -> Iterator[bytes]:
        """Send one request and yield what answers it, until its acknowledgement or the end of the dump. Raises RouteError if no
        answer comes."""
        self._sequence += 1
        header = request.message["header"]
        header["type"], header["sequence_number"], header["pid"] = request.kind, self._sequence, 0
        header["flags"] = _NLM_F_REQUEST | request.flags | flags
        request.message.encode()
        self._socket.send(request.message.data)
        while True:
            try:
                datagram = self._socket.recv(_RECEIVE_SIZE)
            except TimeoutError as error:
                words = f"{request.purpose}: the kernel did not answer within {TIMEOUT:g} s"
                raise RouteError(errno.ETIMEDOUT, words) from error
            for kind, message_flags, sequence, data in _split(datagram):
                if sequence != self._sequence:
                    continue  # the rest of an exchange that was given up
                self._interrupted |= bool(message_flags & _NLM_F_DUMP_INTR)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    _raise_refusal(data, message_flags, request.purpose)
                    return
                yield data


def _split(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield kind, flags, sequence number and bytes of each message of a datagram (netlink(7))."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        yield kind, flags, sequence, datagram[offset : offset + length]
        offset += (length + 3) & ~3


def _raise_refusal(data: bytes, flags: int, purpose: str) -> None:
    """Raise RouteError if an acknowledgement or the end of a dump carries an error number."""
    (number,) = struct.unpack_from("=i", data, _HEADER.size)
    if not number:
        return
    text = os.strerror(-number)
    if flags & _NLM_F_ACK_TLVS and flags & _NLM_F_CAPPED:
        offset = _HEADER.size + 4 + _HEADER.size
        while offset + 4 <= len(data):
            length, kind = struct.unpack_from("=HH", data, offset)
            if length < 4:
                break
            if kind & 0x3FFF == _NLMSGERR_ATTR_MSG:
                text += f": {data[offset + 4 : offset + length].rstrip(bytes(1)).decode(errors='replace')}"
            offset += (length + 3) & ~3
    raise RouteError(-number, f"{purpose}: {text}")


def _decode(kind: Any, data: bytes) -> Any:
    message = kind(data)
    message.decode()
    return message


def _decode_link(data: bytes) -> Link:
    message = _decode(LinkMessage, data)
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=int(message["index"]),
        name=message.get_attr("IFLA_IFNAME") or "",
        kind=(info.get_attr("IFLA_INFO_KIND") if info else None) or "",
        master=int(message.get_attr("IFLA_MASTER") or 0),
        alias=message.get_attr("IFLA_IFALIAS") or "",
        mtu=int(message.get_attr("IFLA_MTU") or 0),
    )
