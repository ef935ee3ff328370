"""A private host with one built-in network, for tests that look at links, packets and tables."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from crid.net.bridge import BridgeNetwork
from crid.net.cni import CniNetwork
from tests.harness.cni import REAL, CniDirectory
from tests.harness.network import PodNamespaces, private_host

SUBNET = "10.91.0.0/24"
SUBNET6 = "fd91::/64"


@pytest.fixture
def host() -> Iterator[None]:
    """Run the test in a network namespace of its own."""
    if os.geteuid():
        pytest.skip("needs root")
    with private_host():
        yield


@pytest.fixture
def pods(host: None, tmp_path: Path) -> Iterator[PodNamespaces]:
    """Pods with real namespaces."""
    namespaces = PodNamespaces(tmp_path)
    yield namespaces
    namespaces.close()


MakeNetwork = Callable[..., BridgeNetwork]


@pytest.fixture
async def make_network(host: None, tmp_path: Path) -> AsyncIterator[MakeNetwork]:
    """Make networks, not started yet; those that a test leaves started are closed at its end."""
    made: list[BridgeNetwork] = []

    def make(bridge: str = "cridt0", subnets: tuple[str, ...] = (SUBNET,)) -> BridgeNetwork:
        made.append(BridgeNetwork(bridge, [ip_network(subnet) for subnet in subnets], tmp_path / "network" / bridge))
        return made[-1]

    yield make
    for network in made:
        await network.close()


@pytest.fixture
async def network(make_network: MakeNetwork) -> BridgeNetwork:
    """A started network."""
    network = make_network()
    await network.start()
    assert network.condition().ready, network.condition()
    return network


@pytest.fixture
def cni(tmp_path: Path) -> CniDirectory:
    """A directory of CNI configurations and scripted plugins."""
    return CniDirectory(tmp_path / "cni")


MakeCni = Callable[..., Awaitable[CniNetwork]]


@pytest.fixture
async def make_cni(host: None, tmp_path: Path, cni: CniDirectory) -> AsyncIterator[MakeCni]:
    """Make started CNI networks, closed at the test's end; their host ports are in the table of a bridge without pods."""
    made: list[CniNetwork] = []

    async def make(**options: Any) -> CniNetwork:
        ports = BridgeNetwork("cridt9", [ip_network(SUBNET)], tmp_path / "unused").host_ports
        made.append(CniNetwork(cni.configurations, [cni.programs, REAL], cni.cache, ports, **options))
        await made[-1].start()
        return made[-1]

    yield make
    for network in made:
        await network.close()
