"""Packets of pods on the built-in network: to each other, to the host, and masqueraded to the world."""

import socket
from ipaddress import ip_address

import pytest

from crid.linux.namespaces import in_network_namespace
from crid.net import rtnetlink
from crid.net.addresses import mac_address
from crid.net.bridge import BridgeNetwork
from crid.net.plugin import PodNetwork
from crid.net.rtnetlink import RouteSocket
from tests.harness.network import PodNamespaces, ping, run, run_in
from tests.integration.net.conftest import SUBNET, SUBNET6, MakeNetwork

pytestmark = pytest.mark.root

OUTSIDE = "198.51.100.1"
HOST_OUTSIDE = "198.51.100.2"


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
    run("busybox", "ping", "-c", "1", "-W", "2", attachment.ips[0])


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
    made.settimeout(3)
    made.bind((address, 0))
    return made


def connect_to_the_world(world: PodNetwork) -> None:
    """Make `world` a machine next to this host, which knows no route to the pods."""
    with open(world.namespace_path) as file, RouteSocket() as route:
        mac = mac_address(ip_address(OUTSIDE))
        descriptor = file.fileno()
        route.send(rtnetlink.create_veth("uplink", master=0, peer="eth0", peer_mac=mac, namespace=descriptor))
    run("ip", "address", "add", f"{HOST_OUTSIDE}/24", "dev", "uplink")
    run_in(world, "ip", "address", "add", f"{OUTSIDE}/24", "dev", "eth0")
    run_in(world, "ip", "link", "set", "eth0", "up")


async def test_traffic_to_the_world_has_the_hosts_address(network: BridgeNetwork, pods: PodNamespaces) -> None:
    world, pod = pods.new(), pods.new()
    connect_to_the_world(world)
    ip = (await network.attach(pod)).ips[0]
    with bound_socket(world, OUTSIDE) as server, bound_socket(pod, ip) as client:
        client.sendto(b"question", server.getsockname())
        question, peer = server.recvfrom(100)
        assert (question, peer[0]) == (b"question", HOST_OUTSIDE)
        server.sendto(b"answer", peer)
        assert client.recvfrom(100) == (b"answer", server.getsockname())


async def test_traffic_between_pods_keeps_the_pods_address(network: BridgeNetwork, pods: PodNamespaces) -> None:
    first, second = pods.new(), pods.new()
    first_ip, second_ip = (await network.attach(first)).ips[0], (await network.attach(second)).ips[0]
    with bound_socket(first, first_ip) as server, bound_socket(second, second_ip) as client:
        client.sendto(b"question", server.getsockname())
        assert server.recvfrom(100) == (b"question", client.getsockname())
