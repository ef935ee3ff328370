"""Connection tracking entries: listed and deleted by ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

Only what host ports need. An entry is deleted by sending its own original tuple, id and zone back, so they are never
decoded further than to the port.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import ip_address

from crid.net.addresses import Address

_NETLINK_NETFILTER = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # subsystem conntrack
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_FAMILY_HEADER = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_TUPLE_ORIGINAL, _ID, _ZONE = 1, 12, 18
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_DESTINATIONS = (2, 4)  # CTA_IP_V4_DST, CTA_IP_V6_DST
_PROTOCOL_NUMBER, _DESTINATION_PORT = 1, 3
_RECEIVE_SIZE = 1 << 16
_TIMEOUT = 10.0


def forget_udp(destinations: Collection[tuple[Address | None, int]]) -> int:
    """Delete the UDP entries of connections to these addresses (None: to any) and ports; return how many these were.

    Blocks. Works in the calling thread's network namespace. Raises OSError.
    """
    ports = {port.to_bytes(2, "big") for _, port in destinations}
    deleted = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(_TIMEOUT)
        for family in (socket.AF_INET, socket.AF_INET6):
            # There may be a million entries: what has none of the ports in it is neither read nor kept.
            listed = _exchange(netlink, _GET, _NLM_F_DUMP, family, b"")
            likely = [message for message in listed if any(port in message for port in ports)]
            for message in likely:
                entry = dict(_attributes(message[_HEADER.size + _FAMILY_HEADER.size :]))
                protocol, address, port = _destination(entry.get(_TUPLE_ORIGINAL, b""))
                if protocol == socket.IPPROTO_UDP and not {(None, port), (address, port)}.isdisjoint(destinations):
                    deleted += _delete(netlink, family, entry)
    return deleted


def _delete(netlink: socket.socket, family: int, entry: dict[int, bytes]) -> bool:
    """Delete one entry; return False if it was gone already."""
    names = [(_TUPLE_ORIGINAL, 0x8000), (_ID, 0), (_ZONE, 0)]
    body = b"".join(_attribute(kind | nested, entry[kind]) for kind, nested in names if kind in entry)
    try:
        list(_exchange(netlink, _DELETE, _NLM_F_ACK, family, body))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def _destination(tuple_: bytes) -> tuple[int, Address | None, int]:
    """Return protocol number, address and port that a tuple's packets go to."""
    parts = dict(_attributes(tuple_))
    protocol = dict(_attributes(parts.get(_TUPLE_PROTOCOL, b"")))
    addresses = [value for kind, value in _attributes(parts.get(_TUPLE_IP, b"")) if kind in _DESTINATIONS]
    number = protocol.get(_PROTOCOL_NUMBER, b"\0")[0]
    port = int.from_bytes(protocol.get(_DESTINATION_PORT, b""), "big")
    return number, ip_address(addresses[0]) if addresses else None, port


def _exchange(netlink: socket.socket, kind: int, flags: int, family: int, body: bytes) -> Iterator[bytes]:
    """Send one request and yield the messages that answer it, until its end. Raises OSError for a refusal."""
    length = _HEADER.size + _FAMILY_HEADER.size + len(body)
    netlink.send(_HEADER.pack(length, kind, _NLM_F_REQUEST | flags, 1, 0) + _FAMILY_HEADER.pack(family, 0, 0) + body)
    while True:
        datagram, offset = netlink.recv(_RECEIVE_SIZE), 0
        while offset + _HEADER.size <= len(datagram):
            length, answer, _, _, _ = _HEADER.unpack_from(datagram, offset)
            if answer in (_NLMSG_ERROR, _NLMSG_DONE):
                (number,) = struct.unpack_from("=i", datagram, offset + _HEADER.size)
                if number < 0:
                    raise OSError(-number, f"conntrack: {os.strerror(-number)}")
                return
            yield datagram[offset : offset + length]
            offset += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each attribute (netlink(7))."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _attribute(kind: int, content: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)
