"""Host ports of the built-in network: who reaches a pod by them, and what restores, refuses and forgets them."""

import asyncio
import socket
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest

from crid.errors import FailedPreconditionError, UnavailableError
from crid.net import rtnetlink
from crid.net.bridge import BridgeNetwork
from crid.net.hostports import HostPorts
from crid.net.links import BridgeLinks
from crid.net.plugin import PodNetwork, PortMapping
from crid.net.rtnetlink import RouteSocket
from crid.net.ruleset import Bridge
from crid.net.table import Table
from tests.harness.network import PodNamespaces, run, run_in
from tests.harness.peers import (
    HOST,
    HOST6,
    IMPATIENCE,
    WORLD,
    WORLD6,
    ask,
    connect_to_the_world,
    datagram_client,
    exchange,
    serving,
)
from tests.harness.tools import PATIENCE
from tests.integration.net.conftest import SUBNET, SUBNET6, MakeNetwork

pytestmark = pytest.mark.root

HTTP = PortMapping("tcp", 12000, 80)
DNS = PortMapping("udp", 12053, 53)


@pytest.fixture
async def network(make_network: MakeNetwork) -> BridgeNetwork:
    network = make_network(subnets=(SUBNET, SUBNET6))
    await network.start()
    await network.retain([])
    return network


def with_ports(pod: PodNetwork, *mappings: PortMapping) -> PodNetwork:
    return replace(pod, port_mappings=mappings)


def unreachable(client: PodNetwork | None, address: str, port: int = 12000) -> bool:
    try:
        ask(client, address, port, patience=IMPATIENCE)
    except OSError:
        return True
    return False


async def test_everybody_reaches_it(network: BridgeNetwork, pods: PodNamespaces) -> None:
    world, pod, neighbour = pods.new(), with_ports(pods.new(), HTTP), pods.new()
    connect_to_the_world(world)
    await network.attach(pod)
    await network.attach(neighbour)
    with serving(pod, 80, "web"):
        assert ask(None, "127.0.0.1", 12000) == "web 10.91.0.1"
        assert ask(None, HOST, 12000).startswith("web ")
        assert ask(None, HOST6, 12000).startswith("web ")
        assert ask(world, HOST, 12000) == f"web {WORLD}"
        assert ask(world, HOST6, 12000) == f"web {WORLD6}"
        for client in (pod, neighbour):
            for address in (HOST, HOST6, "10.91.0.1", "fd91::1"):
                assert ask(client, address, 12000).startswith("web "), (client, address)
        assert unreachable(None, "::1")
    await network.detach(pod)
    assert unreachable(None, "127.0.0.1")
    assert "12000" not in run("nft", "list", "ruleset")


async def test_udp(network: BridgeNetwork, pods: PodNamespaces) -> None:
    world, pod = pods.new(), with_ports(pods.new(), DNS)
    connect_to_the_world(world)
    await network.attach(pod)
    with serving(pod, 53, "dns", socket.SOCK_DGRAM):
        for client, address in ((None, "127.0.0.1"), (None, HOST), (world, HOST), (pod, HOST)):
            with datagram_client(client, address, 12053) as asking:
                assert exchange(asking).startswith("dns ")


async def test_stale_udp_connections_are_forgotten(network: BridgeNetwork, pods: PodNamespaces) -> None:
    world, first, second = pods.new(), with_ports(pods.new(), DNS), with_ports(pods.new(), DNS)
    connect_to_the_world(world)
    with datagram_client(world, HOST, 12053, patience=IMPATIENCE) as asking:
        with pytest.raises(OSError, match=r"refused|timed out"):
            exchange(asking)  # now there is an entry that leads to the host itself
        asking.settimeout(PATIENCE)
        await network.attach(first)
        with serving(first, 53, "first", socket.SOCK_DGRAM):
            assert exchange(asking) == f"first {WORLD}"
        await network.detach(first)
        await network.attach(second)
        with serving(second, 53, "second", socket.SOCK_DGRAM):
            assert exchange(asking) == f"second {WORLD}"


async def test_sctp_is_mapped(network: BridgeNetwork, pods: PodNamespaces) -> None:
    """This kernel has no SCTP sockets, so only the rule is looked at."""
    await network.attach(with_ports(pods.new(), PortMapping("sctp", 12000, 9899)))
    assert "sctp . 12000 comment" in run("nft", "list", "map", "inet", "crid-cridt0", "ports4")


async def test_one_address_of_the_host(network: BridgeNetwork, pods: PodNamespaces) -> None:
    world = pods.new()
    connect_to_the_world(world)
    outside = with_ports(pods.new(), PortMapping("tcp", 12000, 80, ip_address(HOST)))
    inside = with_ports(pods.new(), PortMapping("tcp", 12000, 80, ip_address("127.0.0.1")))
    outside6 = with_ports(pods.new(), PortMapping("tcp", 12000, 80, ip_address(HOST6)))
    for pod in (outside, inside, outside6):
        await network.attach(pod)
    with serving(outside, 80, "outside"), serving(inside, 80, "inside"), serving(outside6, 80, "outside6"):
        assert ask(world, HOST, 12000).startswith("outside ")
        assert ask(world, HOST6, 12000).startswith("outside6 ")
        assert ask(None, "127.0.0.1", 12000).startswith("inside ")


async def test_nobody_on_the_wire_reaches_the_hosts_loopback(network: BridgeNetwork, pods: PodNamespaces) -> None:
    """route_localnet alone would let a pod talk to what listens on 127.0.0.1 (CVE-2020-8558)."""
    pod = with_ports(pods.new(), HTTP)
    await network.attach(pod)
    run("nsenter", f"--net={pod.namespace_path}", "ip", "route", "add", "127.9.9.9/32", "via", "10.91.0.1", "dev", "eth0")
    run("nsenter", f"--net={pod.namespace_path}", "ip", "rule", "add", "pref", "0", "to", "127.9.9.9", "lookup", "main")
    run("nsenter", f"--net={pod.namespace_path}", "busybox", "sysctl", "-w", "net.ipv4.conf.all.route_localnet=1")
    assert Path("/proc/sys/net/ipv4/conf/cridt0/route_localnet").read_text() == "1\n"
    with socket.create_server(("127.9.9.9", 12345)):
        assert unreachable(pod, "127.9.9.9", 12345)


async def test_the_guard_outlives_the_last_host_port(network: BridgeNetwork, pods: PodNamespaces) -> None:
    """On another network's bridge, too, as long as it lets through what is meant for 127.0.0.1; not when it is gone."""
    run("ip", "link", "add", "other0", "type", "bridge")
    pod = with_ports(pods.new(), HTTP)

    def guarded() -> set[str]:
        listed = run("nft", "list", "set", "inet", "crid-cridt0", "localnet").partition("elements = {")[2].partition("}")[0]
        return {name.strip().strip('"') for name in listed.split(",")}

    await network.host_ports.open(pod, ["10.91.0.9"], "other0")
    await network.host_ports.close(pod.sandbox_id)
    assert Path("/proc/sys/net/ipv4/conf/other0/route_localnet").read_text() == "1\n"
    later = HostPorts(Table(Bridge("cridt0", (IPv4Network(SUBNET),))))
    for _ in range(2):
        await later.restore([])
        assert guarded() == {"cridt0", "other0"}
    run("nft", "flush", "ruleset")
    await later.look_after()
    assert guarded() == {"cridt0", "other0"}
    run("ip", "link", "delete", "other0")
    await later.restore([])
    assert guarded() == {"cridt0"}


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        (HTTP, HTTP, True),
        (HTTP, PortMapping("tcp", 12000, 81), True),
        (HTTP, PortMapping("tcp", 12000, 80, ip_address("127.0.0.1")), True),
        (PortMapping("tcp", 12000, 80, ip_address("127.0.0.1")), HTTP, True),
        (HTTP, PortMapping("udp", 12000, 80), False),
        (HTTP, PortMapping("tcp", 12001, 80), False),
        (PortMapping("tcp", 1, 80, ip_address("127.0.0.1")), PortMapping("tcp", 1, 80, ip_address("127.0.0.2")), False),
    ],
)
async def test_a_port_has_one_owner(
    network: BridgeNetwork, pods: PodNamespaces, first: PortMapping, second: PortMapping, conflict: bool
) -> None:
    owner = replace(with_ports(pods.new(), first), pod_name="owner")
    late = with_ports(pods.new(), second)
    await network.attach(owner)
    if not conflict:
        await network.attach(late)
        return
    with pytest.raises(FailedPreconditionError, match=f"host port .*{second.host_port}.* is in use by pod test/owner"):
        await network.attach(late)
    await network.detach(owner)
    await network.attach(late)


@pytest.mark.parametrize("command", ["flush ruleset", "delete table inet crid-cridt0", "flush map inet crid-cridt0 ports4"])
async def test_a_flush_is_repaired(network: BridgeNetwork, pods: PodNamespaces, command: str) -> None:
    pod = with_ports(pods.new(), HTTP)
    await network.attach(pod)
    with serving(pod, 80, "web"):
        assert ask(None, "127.0.0.1", 12000).startswith("web ")
        run("nft", *command.split())
        assert unreachable(None, "127.0.0.1")
        assert network.condition().ready
        assert network._recheck is not None
        await network._recheck
        assert ask(None, "127.0.0.1", 12000).startswith("web ")


async def test_a_flush_does_not_fail_the_next_attach_or_detach(network: BridgeNetwork, pods: PodNamespaces) -> None:
    pod, other = with_ports(pods.new(), HTTP), with_ports(pods.new(), DNS)
    await network.attach(pod)
    run("nft", "flush", "ruleset")
    await network.attach(other)
    with serving(pod, 80, "web"):
        assert ask(None, "127.0.0.1", 12000).startswith("web ")
    run("nft", "flush", "ruleset")
    await network.detach(pod)
    listing = run("nft", "list", "ruleset")
    assert ("12000" in listing, "12053" in listing) == (False, True)


async def test_a_restart_keeps_them_open_all_the_time(
    network: BridgeNetwork, make_network: MakeNetwork, pods: PodNamespaces
) -> None:
    pod, gone = with_ports(pods.new(), HTTP), with_ports(pods.new(), DNS)
    attachment = await network.attach(pod)
    await network.attach(gone)
    with serving(pod, 80, "web"):
        await network.close()
        assert ask(None, "127.0.0.1", 12000).startswith("web ")
        again = make_network(subnets=(SUBNET, SUBNET6))
        await again.start()
        assert ask(None, "127.0.0.1", 12000).startswith("web ")
        await again.retain([replace(pod, attachment=attachment)])
        assert ask(None, "127.0.0.1", 12000).startswith("web ")
        assert "12053" not in run("nft", "list", "ruleset")
        with pytest.raises(FailedPreconditionError, match="in use by pod"):
            await again.attach(with_ports(pods.new(), HTTP))
        await again.detach(pod)
        assert unreachable(None, "127.0.0.1")


async def test_a_restart_after_a_flush_restores_them(
    network: BridgeNetwork, make_network: MakeNetwork, pods: PodNamespaces
) -> None:
    pod = with_ports(pods.new(), HTTP)
    attachment = await network.attach(pod)
    await network.close()
    run("nft", "flush", "ruleset")
    again = make_network(subnets=(SUBNET, SUBNET6))
    await again.start()
    await again.retain([replace(pod, attachment=attachment)])
    with serving(pod, 80, "web"):
        assert ask(None, "127.0.0.1", 12000).startswith("web ")


async def test_a_failed_attach_frees_the_port(
    network: BridgeNetwork, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise UnavailableError("made to fail")

    with monkeypatch.context() as patch:
        patch.setattr(BridgeLinks, "connect", refuse)
        with pytest.raises(UnavailableError, match="made to fail"):
            await network.attach(with_ports(pods.new(), HTTP))
    await network.attach(with_ports(pods.new(), HTTP))


async def test_many_pods_at_once_leave_no_rule(network: BridgeNetwork, pods: PodNamespaces) -> None:
    before = run("nft", "list", "ruleset")
    many = [with_ports(pods.new(), PortMapping("tcp", 13000 + number, 80)) for number in range(30)]
    await asyncio.gather(*map(network.attach, many))
    assert run("nft", "list", "map", "inet", "crid-cridt0", "ports6").count("comment") == 30
    await asyncio.gather(*map(network.detach, many))
    assert run("nft", "list", "ruleset") == before


async def test_mapping_can_be_left_to_others(make_network: MakeNetwork, pods: PodNamespaces, tmp_path: Path) -> None:
    network = BridgeNetwork("cridt1", [IPv4Network(SUBNET)], tmp_path / "n", map_host_ports=False)
    await network.start()
    try:
        await network.attach(with_ports(pods.new(), HTTP))
        assert "12000" not in run("nft", "list", "ruleset")
    finally:
        await network.close()


async def test_other_container_networks_are_kept_apart(network: BridgeNetwork, pods: PodNamespaces) -> None:
    """Docker's bridge, say: no packet to or from it, but host ports are for everybody."""
    run("ip", "link", "add", "docker9", "type", "bridge")
    run("ip", "address", "add", "10.95.0.1/24", "dev", "docker9")
    run("ip", "link", "set", "docker9", "up")
    stranger, pod = pods.new(), with_ports(pods.new(), HTTP)
    with open(stranger.namespace_path) as file, RouteSocket() as route:
        bridge = route.link("docker9")
        assert bridge is not None
        pair = rtnetlink.create_veth(
            "strange0", master=bridge.index, peer="eth0", peer_mac="0a:58:0a:5f:00:02", namespace=file.fileno()
        )
        route.send(pair)
    run_in(stranger, "ip", "address", "add", "10.95.0.2/24", "dev", "eth0")
    run_in(stranger, "ip", "link", "set", "eth0", "up")
    run_in(stranger, "ip", "route", "add", "default", "via", "10.95.0.1")
    await network.attach(pod)
    with serving(pod, 80, "web"), serving(stranger, 80, "stranger"):
        assert ask(stranger, "10.91.0.2", 80).startswith("web ")  # nobody has looked around yet
        await network._ensure()
        assert unreachable(stranger, "10.91.0.2", 80)
        assert unreachable(pod, "10.95.0.2", 80)
        assert ask(None, "10.95.0.2", 80).startswith("stranger ")
        assert ask(stranger, "10.95.0.1", 12000).startswith("web ")
