"""`[crid.network]`: the built-in network and CNI."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from crid.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """`[crid.network]`. `subnet` and `bridge` are the built-in network's, the other keys CNI's.

    `subnet` is one CIDR, or an IPv4 and an IPv6 one with a comma between, as in Kubernetes' own options; the first is the
    primary one. An empty `bridge` is named by the subnet: crid0 for the default one.
    """

    network_dir: str = "/etc/cni/net.d/"
    plugin_dirs: list[str] = field(default_factory=lambda: ["/opt/cni/bin/", "/usr/lib/cni/"])
    cni_default_network: str = ""
    disable_hostport_mapping: bool = False
    subnet: str = "10.88.0.0/16"
    bridge: str = ""

    def subnets(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Return the networks that `subnet` names. Raises ValueError."""
        return [ipaddress.ip_network(text.strip()) for text in self.subnet.split(",")]

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        try:
            subnets = self.subnets()
        except ValueError as error:
            raise InvalidArgumentError(f"crid.network.subnet: {error}") from error
        if len({subnet.version for subnet in subnets}) != len(subnets):
            raise InvalidArgumentError("crid.network.subnet: at most one subnet of each IP version")
        for subnet in subnets:
            if subnet.num_addresses < 8:
                raise InvalidArgumentError(f"crid.network.subnet: {subnet} must hold at least 8 addresses")
        for name, paths in (("network_dir", [self.network_dir]), ("plugin_dirs", self.plugin_dirs)):
            if not all(Path(path).is_absolute() for path in paths):
                raise InvalidArgumentError(f"crid.network.{name}: must be absolute")
        bridge = self.bridge
        if len(bridge.encode()) > 15 or bridge in (".", "..") or any(letter in "/:" or letter.isspace() for letter in bridge):
            raise InvalidArgumentError(
                "crid.network.bridge: an interface name has at most 15 characters, and no slash, colon or space"
            )
