"""The text of crid's nftables table: masquerading, host ports and isolation. Pure; `crid.net.table` gives it to nft(8).

Host ports are elements of maps, so what a packet costs does not grow with their number, and a pod's are added or removed
in one transaction. Which chains there are, and why:

  guard        before connection tracking: nobody on the wire may talk to 127.0.0.1, which `route_localnet` would allow
  prerouting   what comes from outside or from pods to an address of the host, and
  output       what the host itself sends to one, both look into the maps
  postrouting  the answer must come back here: what the host sent from 127.0.0.1, what a pod sent to itself or to its
               neighbour by way of a host port, and what pods send to the world gets the host's address
  forward      pods and the other container networks of this host do not meet, except through host ports

A table of ours cannot take back what another table drops: a firewall whose forward hook has the policy drop (docker's,
ufw's) must accept the bridge's traffic itself.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crid.net.addresses import Address, Network
from crid.net.plugin import PortMapping

Elements = Mapping[str, Sequence[str]]
"""Elements by the name of their set or map."""

_LOOPBACK = "127.0.0.0/8"
_DECLARATIONS = (
    ("map", "ports4", "inet_proto . inet_service : ipv4_addr . inet_service"),
    ("map", "ports6", "inet_proto . inet_service : ipv6_addr . inet_service"),
    ("map", "address_ports4", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service"),
    ("map", "address_ports6", "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service"),
    ("set", "hairpin4", "ipv4_addr . ipv4_addr"),
    ("set", "hairpin6", "ipv6_addr . ipv6_addr"),
    ("set", "localnet", "ifname"),
)


@dataclass(frozen=True, slots=True)
class Bridge:
    """What the rules say about a bridge: its name, its networks, and the bridges of other container networks."""

    name: str
    networks: tuple[Network, ...]
    strangers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodPorts:
    """The host ports of one pod: each mapping leads to its first address of the family. `interface` is where the host
    reaches the pod."""

    sandbox_id: str
    mappings: tuple[PortMapping, ...]
    addresses: tuple[Address, ...]
    interface: str


def table_name(bridge: str) -> str:
    """Return the name of the table (family inet) that belongs to `bridge`."""
    return f"crid-{bridge}"


def table(bridge: Bridge, pods: Iterable[PodPorts] = (), guarded: Iterable[str] = ()) -> str:
    """Return the input of nft(8) that makes the table anew, whether it is there or not, in one transaction.

    `guarded` are interfaces to be guarded beside the bridge and those of `pods`.
    """
    name = f"table inet {table_name(bridge.name)}"
    held: dict[str, list[str]] = {"localnet": [_quoted(bridge.name), *map(_quoted, sorted({*guarded} - {bridge.name}))]}
    for pod in pods:
        for target, members in elements(pod, keys_only=False).items():
            known = held.setdefault(target, [])
            known += [member for member in members if member not in known]
    lines = [name, f"delete {name}", f"{name} {{"]
    for kind, target, type_ in _DECLARATIONS:
        content = f" elements = {{ {', '.join(held[target])} }};" if held.get(target) else ""
        lines.append(f"{kind} {target} {{ type {type_};{content} }}")
    for chain, rules in _chains(bridge):
        lines += [f"chain {chain} {{", *rules, "}"]
    return "\n".join([*lines, "}", ""])


def add(bridge: str, pod: PodPorts) -> str:
    """Return the input of nft(8) that opens a pod's host ports."""
    return _change("add", bridge, elements(pod, keys_only=False))


def remove(bridge: str, pod: PodPorts) -> str:
    """Return the input of nft(8) that closes them. Where the host reaches the pod stays guarded, as others live there."""
    gone = {target: members for target, members in elements(pod, keys_only=True).items() if target != "localnet"}
    return _change("delete", bridge, gone)


def drop(bridge: str) -> str:
    """Return the input of nft(8) that removes the table, whether it is there or not."""
    name = f"table inet {table_name(bridge)}"
    return f"{name}\ndelete {name}\n"


def elements(pod: PodPorts, *, keys_only: bool) -> Elements:
    """Return a pod's elements; without `keys_only` with what they lead to and whose they are."""
    found: dict[str, list[str]] = {}
    comment = "" if keys_only else f' comment "pod {pod.sandbox_id}"'
    for address in _first_of_each_family(pod.addresses):
        for mapping in pod.mappings:
            ip = mapping.host_ip
            if ip is not None and ip.version != address.version:
                continue
            key = f"{mapping.protocol} . {mapping.host_port}"
            value = "" if keys_only else f" : {address} . {mapping.container_port}"
            target, key = ("ports", key) if ip is None else ("address_ports", f"{ip} . {key}")
            found.setdefault(f"{target}{address.version}", []).append(f"{key}{comment}{value}")
        found[f"hairpin{address.version}"] = [f"{address} . {address}"]
    found["localnet"] = [_quoted(pod.interface)] if pod.interface else []
    return found


def ports_in(listing: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the id of the pod and PORT/PROTOCOL of each host port in a listing of the table (libnftables-json(5)).

    Raises LookupError or TypeError for what is no such listing.
    """
    for item in listing["nftables"]:
        target = item.get("map", {})
        if "ports" in target.get("name", ""):
            for key, _ in target.get("elem", []):
                *_, protocol, port = key["elem"]["val"]["concat"]
                yield key["elem"]["comment"].removeprefix("pod "), f"{port}/{protocol}"


def guarded_in(listing: Mapping[str, Any]) -> Iterator[str]:
    """Yield the guarded interfaces in a listing of the table (libnftables-json(5)).

    Raises LookupError or TypeError for what is no such listing.
    """
    for item in listing["nftables"]:
        target = item.get("set", {})
        if target.get("name") == "localnet":
            yield from map(str, target.get("elem", []))


def _change(verb: str, bridge: str, changed: Elements) -> str:
    return "".join(
        f"{verb} element inet {table_name(bridge)} {target} {{ {', '.join(members)} }}\n"
        for target, members in changed.items()
        if members
    )


def _first_of_each_family(addresses: Collection[Address]) -> Iterator[Address]:
    for version in (4, 6):
        yield from [address for address in addresses if address.version == version][:1]


def _chains(bridge: Bridge) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the content of each chain."""
    yield (
        "guard",
        [
            "type filter hook prerouting priority raw; policy accept;",
            f"iifname @localnet ip daddr {_LOOPBACK} drop",
            f"iifname @localnet ip saddr {_LOOPBACK} drop",
        ],
    )
    yield (
        "hostports",  # a mapping of one address of the host goes before one of all
        [
            "dnat ip to ip daddr . meta l4proto . th dport map @address_ports4",
            "dnat ip6 to ip6 daddr . meta l4proto . th dport map @address_ports6",
            "dnat ip to meta l4proto . th dport map @ports4",
            "dnat ip6 to meta l4proto . th dport map @ports6",
        ],
    )
    look_up = "fib daddr type local goto hostports"
    yield "prerouting", ["type nat hook prerouting priority dstnat; policy accept;", look_up]
    # There is no route_localnet for IPv6: what was sent to ::1 could not leave, and is better refused at once.
    yield "output", ["type nat hook output priority -100; policy accept;", "ip6 daddr ::1 return", look_up]
    yield "postrouting", ["type nat hook postrouting priority srcnat; policy accept;", *_masquerade(bridge)]
    yield "forward", ["type filter hook forward priority filter; policy accept;", *_isolate(bridge)]


def _masquerade(bridge: Bridge) -> Iterator[str]:
    """Yield the rules for packets whose answer must come back to the host."""
    yield f'ct status dnat ip saddr {_LOOPBACK} oifname != "lo" masquerade'
    yield "ct status dnat ip saddr . ip daddr @hairpin4 masquerade"
    yield "ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade"
    for network in bridge.networks:
        family, multicast = ("ip", "224.0.0.0/4") if network.version == 4 else ("ip6", "ff00::/8")
        yield f"ct status dnat {family} saddr {network} {family} daddr {network} masquerade"
        outside = f"{family} daddr != {{ {network}, {multicast} }}"
        yield f'{family} saddr {network} {outside} oifname != "{bridge.name}" masquerade'


def _isolate(bridge: Bridge) -> Iterator[str]:
    if bridge.strangers:
        strangers = f"{{ {', '.join(map(_quoted, bridge.strangers))} }}"
        yield "ct status dnat accept"
        yield f'iifname "{bridge.name}" oifname {strangers} drop'
        yield f'iifname {strangers} oifname "{bridge.name}" drop'


def _quoted(name: str) -> str:
    return f'"{name}"'
