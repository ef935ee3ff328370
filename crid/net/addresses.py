"""The vocabulary of addressing, and the two addresses that follow from others by rule."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


def gateway(network: Network) -> Interface:
    """Return the address of the bridge in `network`: the first one, with the network's prefix."""
    return interface(network[1], network)


def interface(address: Address, network: Network) -> Interface:
    """Return `address` with the prefix of `network`."""
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, network.prefixlen))
    return IPv6Interface((address, network.prefixlen))


def mac_address(address: Address) -> str:
    """Return the MAC address of whoever has `address`: 0a:58, which is locally administered, and the last 32 bits.

    It depends on nothing else, so a neighbour's cache entry is still right when the address has a new holder.
    """
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + address.packed[-4:])
