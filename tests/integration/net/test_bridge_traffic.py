"""Packets of pods on the built-in network: to each other, to the host, and masqueraded to the world."""

import socket

import pytest

from crid.linux.namespaces import in_network_namespace
from crid.net.bridge import BridgeNetwork
from crid.net.plugin import PodNetwork
from tests.harness.network import PING, PodNamespaces, ping, run, run_in
from tests.harness.peers import HOST, WORLD, connect_to_the_world
from tests.harness.tools import PATIENCE
from tests.integration.net.conftest import SUBNET, SUBNET6, MakeNetwork

pytestmark = pytest.mark.root


async def test_pods_reach_gateway_themselves_and_each_other(network: BridgeNetwork, pods: PodNamespaces) -> None:
    first, second = pods.new(), pods.new()
    first_ip = (await network.attach(first)).ips[0]
    second_ip = (await network.attach(second)).ips[0]
    ping(first, "10.91.0.1")
    ping(first, "127.0.0.1")
    ping(first, first_ip)
    ping(first, second_ip)
    ping(second, first_ip)


async def test_host_reaches_the_pod(network: BridgeNetwork, pods: PodNamespaces) -> None:
    attachment = await network.attach(pods.new())
    run(*PING, attachment.ips[0])


async def test_dual_stack(make_network: MakeNetwork, pods: PodNamespaces) -> None:
    network = make_network(subnets=(SUBNET, SUBNET6))
    await network.start()
    first, second = pods.new(), pods.new()
    await network.attach(first)
    attachment = await network.attach(second)
    assert attachment.ips == ("10.91.0.3", "fd91::3")
    for address in (*attachment.ips, "10.91.0.1", "fd91::1", "::1"):
        ping(first, address)


async def test_pod_sees_one_interface_with_its_address_mac_and_default_route(
    network: BridgeNetwork, pods: PodNamespaces
) -> None:
    pod = pods.new()
    await network.attach(pod)
    assert "default via 10.91.0.1 dev eth0" in run_in(pod, "ip", "route")
    link = run_in(pod, "ip", "-brief", "link")
    assert [line.split()[0].partition("@")[0] for line in link.splitlines()] == ["lo", "eth0"]
    assert "0a:58:0a:5b:00:02" in link
    assert "10.91.0.2/24 brd 10.91.0.255" in run_in(pod, "ip", "address")


def bound_socket(pod: PodNetwork, address: str) -> socket.socket:
    """Return a UDP socket within the pod's namespace."""
    made = in_network_namespace(pod.namespace_path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.settimeout(PATIENCE)
    made.bind((address, 0))
    return made


async def test_traffic_to_the_world_has_the_hosts_address(network: BridgeNetwork, pods: PodNamespaces) -> None:
    world, pod = pods.new(), pods.new()
    connect_to_the_world(world)
    ip = (await network.attach(pod)).ips[0]
    with bound_socket(world, WORLD) as server, bound_socket(pod, ip) as client:
        client.sendto(b"question", server.getsockname())
        question, peer = server.recvfrom(100)
        assert (question, peer[0]) == (b"question", HOST)
        server.sendto(b"answer", peer)
        assert client.recvfrom(100) == (b"answer", server.getsockname())


async def test_traffic_between_pods_keeps_the_pods_address(network: BridgeNetwork, pods: PodNamespaces) -> None:
    first, second = pods.new(), pods.new()
    first_ip, second_ip = (await network.attach(first)).ips[0], (await network.attach(second)).ips[0]
    with bound_socket(first, first_ip) as server, bound_socket(second, second_ip) as client:
        client.sendto(b"question", server.getsockname())
        assert server.recvfrom(100) == (b"question", client.getsockname())
