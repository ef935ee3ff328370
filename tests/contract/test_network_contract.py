"""What every NetworkPlugin promises, run over the built-in network in a private host namespace and over the fake."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from crid.errors import FailedPreconditionError, ResourceExhaustedError
from crid.model.ids import new_id
from crid.net.bridge import BridgeNetwork
from crid.net.choice import ChosenNetwork
from crid.net.cni import CniNetwork
from crid.net.fake import FakeNetwork
from crid.net.plugin import NetworkPlugin, PodNetwork, PortMapping
from tests.harness.cni import REAL as PLUGINS
from tests.harness.cni import CniDirectory
from tests.harness.network import PodNamespaces, private_host

NETWORK = IPv4Network("10.91.0.0/25")
SMALL = IPv4Network("10.91.1.0/29")


class Pods:
    """Where a test gets its pods from: with real namespaces for a real network."""

    def __init__(self, namespaces: PodNamespaces | None) -> None:
        self._namespaces = namespaces

    def new(self) -> PodNetwork:
        if self._namespaces:
            return self._namespaces.new()
        return PodNetwork(new_id(), "/nowhere")

    def destroy(self, pod: PodNetwork) -> None:
        if self._namespaces:
            self._namespaces.destroy(pod)


REAL = ("bridge", "cni", "chosen")


@pytest.fixture
def subnet() -> IPv4Network:
    return NETWORK


@pytest.fixture(params=[*(pytest.param(name, marks=pytest.mark.root) for name in REAL), "fake"])
async def parts(
    request: pytest.FixtureRequest, subnet: IPv4Network, tmp_path: Path
) -> AsyncIterator[tuple[NetworkPlugin, Pods]]:
    if request.param == "fake":
        yield FakeNetwork([subnet]), Pods(None)
        return
    if os.geteuid():
        pytest.skip("needs root")
    with private_host():
        namespaces = PodNamespaces(tmp_path)
        network = real_network(request.param, subnet, tmp_path)
        await network.start()
        await network.retain([])
        try:
            yield network, Pods(namespaces)
        finally:
            namespaces.close()
            await network.close()


def real_network(name: str, subnet: IPv4Network, directory: Path) -> BridgeNetwork | CniNetwork | ChosenNetwork:
    """Return the network of this name, not started: CNI's is made of Debian's bridge and host-local plugins."""
    bridge = BridgeNetwork("cridt0", [subnet], directory / "network")
    if name == "bridge":
        return bridge
    files = CniDirectory(directory / "cni")
    cni = CniNetwork(files.configurations, [files.programs, PLUGINS], files.cache, bridge.host_ports)
    if name == "cni":
        files.write_list(files.bridge(str(subnet)), version="1.0.0")
        return cni
    return ChosenNetwork(bridge, cni)


@pytest.fixture
def network(parts: tuple[NetworkPlugin, Pods]) -> NetworkPlugin:
    return parts[0]


@pytest.fixture
def pods(parts: tuple[NetworkPlugin, Pods]) -> Pods:
    return parts[1]


async def test_gives_an_address_of_the_network(network: NetworkPlugin, pods: Pods) -> None:
    attachment = await network.attach(pods.new())
    (ip,) = attachment.ips
    assert IPv4Address(ip) in NETWORK
    assert IPv4Address(ip) not in (NETWORK[0], NETWORK[1], NETWORK[-1])
    assert attachment.interface == "eth0"


async def test_is_ready(network: NetworkPlugin, pods: Pods) -> None:
    condition = network.condition()
    assert condition.ready, condition


async def test_pods_have_different_addresses(network: NetworkPlugin, pods: Pods) -> None:
    attachments = [await network.attach(pods.new()) for _ in range(3)]
    assert len({attachment.ips for attachment in attachments}) == 3


async def test_fifty_pods_at_once(network: NetworkPlugin, pods: Pods) -> None:
    all_pods = [pods.new() for _ in range(50)]
    attachments = await asyncio.gather(*map(network.attach, all_pods))
    assert len({attachment.ips for attachment in attachments}) == 50
    await asyncio.gather(*map(network.detach, all_pods))


async def test_an_address_is_not_given_again_at_once(network: NetworkPlugin, pods: Pods) -> None:
    pod = pods.new()
    first = await network.attach(pod)
    await network.detach(pod)
    assert (await network.attach(pods.new())).ips != first.ips


async def test_detach_is_idempotent(network: NetworkPlugin, pods: Pods) -> None:
    pod = pods.new()
    await network.attach(pod)
    await network.detach(pod)
    await network.detach(pod)


async def test_detach_of_a_pod_that_was_never_attached(network: NetworkPlugin, pods: Pods) -> None:
    await network.detach(pods.new())
    await network.detach(PodNetwork(new_id(), ""))


async def test_detach_when_the_namespace_is_gone(network: NetworkPlugin, pods: Pods) -> None:
    pod = pods.new()
    await network.attach(pod)
    pods.destroy(pod)
    await network.detach(pod)


@pytest.mark.parametrize("subnet", [SMALL])
async def test_full_network_is_named_and_serves_again_after_a_release(network: NetworkPlugin, pods: Pods) -> None:
    held = [pods.new() for _ in range(5)]
    for pod in held:
        await network.attach(pod)
    late = pods.new()
    with pytest.raises(ResourceExhaustedError, match=r"10\.91\.1\.[01]"):
        await network.attach(late)
    await network.detach(late)
    await network.detach(held[2])
    assert (await network.attach(late)).ips == (str(SMALL[4]),)


@pytest.mark.parametrize("subnet", [SMALL])
async def test_retain_releases_all_other_pods(network: NetworkPlugin, pods: Pods) -> None:
    held = [pods.new() for _ in range(5)]
    for pod in held:
        await network.attach(pod)
    await network.retain([held[0], PodNetwork(new_id(), "")])
    attachments = [await network.attach(pods.new()) for _ in range(4)]
    assert {ip for attachment in attachments for ip in attachment.ips} == {str(SMALL[offset]) for offset in range(3, 7)}


async def test_detach_and_attach_of_many_at_once(network: NetworkPlugin, pods: Pods) -> None:
    old = [pods.new() for _ in range(10)]
    new = [pods.new() for _ in range(10)]
    for pod in old:
        await network.attach(pod)
    results = await asyncio.gather(*map(network.detach, old), *map(network.attach, new))
    attachments = [result for result in results if result]
    assert len({attachment.ips for attachment in attachments}) == 10


async def test_a_host_port_has_one_owner_until_it_is_detached(network: NetworkPlugin, pods: Pods) -> None:
    ports = (PortMapping("tcp", 12000, 80),)
    owner, other = (replace(pods.new(), port_mappings=ports, pod_name=name) for name in ("owner", "other"))
    await network.attach(owner)
    with pytest.raises(FailedPreconditionError, match=r"host port \*:12000/tcp is in use by pod .*/owner"):
        await network.attach(other)
    await network.detach(other)
    await network.detach(owner)
    await network.attach(other)


async def test_a_host_port_stays_its_owners_when_a_daemon_begins(network: NetworkPlugin, pods: Pods) -> None:
    ports = (PortMapping("tcp", 12000, 80),)
    owner, other = (replace(pods.new(), port_mappings=ports) for _ in range(2))
    attachment = await network.attach(owner)
    await network.retain([replace(owner, attachment=attachment)])
    with pytest.raises(FailedPreconditionError, match="in use"):
        await network.attach(other)
    await network.retain([])
    await network.attach(other)
