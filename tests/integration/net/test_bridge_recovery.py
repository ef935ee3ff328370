"""What the built-in network leaves, finds and repairs: failures midway, crashes, restarts, and other people's doings."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from crid.errors import UnavailableError
from crid.model.ids import new_id
from crid.net import bridge, table
from crid.net.bridge import BridgeNetwork
from crid.net.links import BridgeLinks, host_end
from crid.net.plugin import PodNetwork
from crid.net.rtnetlink import Request, RouteError, RouteSocket
from tests.harness.network import PodNamespaces, ping, pod_links, run
from tests.harness.tools import until
from tests.integration.net.conftest import SUBNET, SUBNET6, MakeNetwork

pytestmark = pytest.mark.root

REQUESTS_OF_ATTACH = 8
"""For two networks: create the pair, set its alias, bring up lo and eth0, two addresses, two routes."""


def fail_at(monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Have the kernel refuse the request number `count` from now on; return the list that collects what is asked."""
    asked: list[str] = []
    exchange = RouteSocket._exchange

    def failing(self: RouteSocket, request: Request, flags: int) -> Any:
        if not request.purpose.startswith(("look up", "list", "delete")):
            asked.append(request.purpose)
            if len(asked) == count + 1:
                raise RouteError(errno.ENOMEM, f"{request.purpose}: made to fail")
        return exchange(self, request, flags)

    monkeypatch.setattr(RouteSocket, "_exchange", failing)
    return asked


@pytest.mark.parametrize("step", range(REQUESTS_OF_ATTACH))
async def test_refused_attach_leaves_nothing(
    make_network: MakeNetwork, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    network = make_network(subnets=(SUBNET, SUBNET6))
    await network.start()
    pod = pods.new()
    with monkeypatch.context() as patch:
        fail_at(patch, step)
        with pytest.raises(UnavailableError, match=f"pod {pod.sandbox_id}: .*made to fail"):
            await network.attach(pod)
    assert pod_links() == set()
    assert len(network._addresses) == 0
    await network.detach(pod)


async def test_address_of_a_link_that_cannot_be_removed_stays_taken(
    network: BridgeNetwork, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pods.new()

    def refuse(*args: object) -> None:
        raise UnavailableError("made to fail")

    with monkeypatch.context() as patch:
        fail_at(patch, 3)
        patch.setattr(BridgeLinks, "remove", refuse)
        with pytest.raises(UnavailableError, match="bring interface"):
            await network.attach(pod)
    assert pod_links() == {host_end(pod.sandbox_id)}
    assert network._addresses.held().keys() == {pod.sandbox_id}
    await network.detach(pod)
    assert pod_links() == set()
    assert len(network._addresses) == 0


async def test_attach_asks_the_kernel_for_no_more_than_is_failed_above(
    make_network: MakeNetwork, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network(subnets=(SUBNET, SUBNET6))
    await network.start()
    with monkeypatch.context() as patch:
        asked = fail_at(patch, 1000)
        await network.attach(pods.new())
    assert len(asked) == REQUESTS_OF_ATTACH, asked


@pytest.mark.parametrize("by", ["detach", "retain"])
@pytest.mark.parametrize("step", range(REQUESTS_OF_ATTACH))
async def test_crash_during_attach_is_cleaned_up_by_the_next_daemon(
    make_network: MakeNetwork, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch, step: int, by: str
) -> None:
    crashing = make_network(subnets=(SUBNET, SUBNET6))
    await crashing.start()
    pod, other = pods.new(), pods.new()
    await crashing.attach(other)
    with monkeypatch.context() as patch:
        fail_at(patch, step)
        patch.setattr(BridgeLinks, "remove", lambda *args: None)
        patch.setattr(crashing._addresses, "release", lambda sandbox_id: None)
        with pytest.raises(UnavailableError):
            await crashing.attach(pod)
    assert pod_links() == ({host_end(pod.sandbox_id)} if step else set()) | {host_end(other.sandbox_id)}
    next_one = make_network(subnets=(SUBNET, SUBNET6))
    await next_one.start()
    if by == "detach":
        await next_one.retain([pod, other])
        await next_one.detach(pod)
    else:
        await next_one.retain([other])
    assert pod_links() == {host_end(other.sandbox_id)}
    assert next_one._addresses.held().keys() == {other.sandbox_id}


async def test_missing_namespace_is_named(network: BridgeNetwork, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(UnavailableError, match="pod "):
            await network.attach(PodNetwork(new_id(), str(path)))
    assert len(network._addresses) == 0
    assert pod_links() == set()


async def test_cancelled_attach_can_be_detached(network: BridgeNetwork, pods: PodNamespaces) -> None:
    pod = pods.new()
    attaching = asyncio.get_running_loop().create_task(network.attach(pod))
    await asyncio.sleep(0.001)
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    await network.detach(pod)
    assert pod_links() == set()
    assert len(network._addresses) == 0


async def test_restart_keeps_pods_and_their_addresses(
    network: BridgeNetwork, make_network: MakeNetwork, pods: PodNamespaces
) -> None:
    kept, gone = pods.new(), pods.new()
    ip = (await network.attach(kept)).ips[0]
    await network.attach(gone)
    await network.close()
    ping(kept, "10.91.0.1")
    again = make_network()
    await again.start()
    await again.retain([kept])
    assert pod_links() == {host_end(kept.sandbox_id)}
    later = pods.new()
    await again.attach(later)
    ping(later, ip)


async def test_damaged_journal_is_rebuilt_from_the_links(
    network: BridgeNetwork, make_network: MakeNetwork, pods: PodNamespaces, tmp_path: Path
) -> None:
    pod = pods.new()
    attachment = await network.attach(pod)
    await network.close()
    (tmp_path / "network" / "cridt0" / "addresses").write_bytes(b"\0garbage")
    again = make_network()
    await again.start()
    await again.retain([pod])
    assert tuple(map(str, again._addresses.held()[pod.sandbox_id])) == attachment.ips


async def test_deleted_bridge_is_made_again_with_its_pods(network: BridgeNetwork, pods: PodNamespaces) -> None:
    old, new = pods.new(), pods.new()
    old_ip = (await network.attach(old)).ips[0]
    run("ip", "link", "delete", "cridt0")
    await network.attach(new)
    ping(new, "10.91.0.1")
    ping(new, old_ip)


async def test_pods_are_plugged_in_though_a_daemon_died_when_it_had_made_the_bridge_again(
    network: BridgeNetwork, make_network: MakeNetwork, pods: PodNamespaces
) -> None:
    pod = pods.new()
    attachment = await network.attach(pod)
    await network.close()
    run("ip", "link", "delete", "cridt0")
    run("ip", "link", "add", "cridt0", "type", "bridge")
    again = make_network()
    await again.start()
    await again.retain([pod])
    ping(pod, "10.91.0.1")
    assert tuple(map(str, again._addresses.held()[pod.sandbox_id])) == attachment.ips


@pytest.mark.parametrize("subnets", [(SUBNET,), (SUBNET, SUBNET6)])
async def test_no_pod_is_a_router_for_the_host(make_network: MakeNetwork, subnets: tuple[str, ...]) -> None:
    """Also at a bridge of an earlier daemon, and though other interfaces go on to learn routes on a host that forwards."""
    accepted = Path("/proc/sys/net/ipv6/conf/cridt0/accept_ra")
    for _ in range(2):
        network = make_network(subnets=subnets)
        await network.start()
        assert network.condition().ready
        assert accepted.read_text() == "0\n"
        await network.close()
        accepted.write_text("2")


async def test_links_of_somebody_else_are_left_alone(network: BridgeNetwork, pods: PodNamespaces) -> None:
    pod = pods.new()
    foreign = {"veth00000000001", "veth00000000002", host_end(pod.sandbox_id)}
    for number, name in enumerate(sorted(foreign)):
        run("ip", "link", "add", name, "type", "veth", "peer", "name", f"vethpeer{number}")
    run("ip", "link", "set", "veth00000000002", "alias", "mine")
    run("ip", "link", "set", "veth00000000002", "master", "cridt0")
    with pytest.raises(UnavailableError, match="File exists"):
        await network.attach(pod)
    await network.detach(pod)
    await network.retain([])
    assert pod_links() >= foreign


async def test_two_networks_side_by_side_do_not_touch_each_other(
    network: BridgeNetwork, make_network: MakeNetwork, pods: PodNamespaces
) -> None:
    other = make_network("cridt1", ("10.91.2.0/24",))
    await other.start()
    first, second = pods.new(), pods.new()
    await network.attach(first)
    await other.attach(second)
    await network.retain([first])
    await network.detach(second)
    ping(second, "10.91.2.1")
    await other.detach(second)
    await other.close(remove=True)
    ping(first, "10.91.0.1")
    assert run("nft", "list", "tables").split() == ["table", "inet", "crid-cridt0"]


@pytest.mark.parametrize(
    ("commands", "reason", "words"),
    [
        (["ip link add cridt0 type veth"], "BridgeConflict", "'veth'"),
        (["ip link add cridt0 type bridge", "ip address add 10.91.9.1/24 dev cridt0"], "BridgeConflict", "10.91.9.1/24"),
        (["ip link add other0 type bridge", "ip address add 10.91.0.77/32 dev other0"], "SubnetConflict", "10.91.0.77/32"),
        (
            ["ip link add other0 type bridge", "ip link set other0 up", "ip route add 10.91.0.128/25 dev other0"],
            "SubnetConflict",
            "other0",
        ),
        (
            ["ip link add other0 type bridge", "ip link set other0 up", "ip route add 10.0.0.0/8 dev other0"],
            "SubnetConflict",
            "10.0.0.0/8",
        ),
    ],
)
async def test_conflict_is_a_condition_and_heals(
    make_network: MakeNetwork, pods: PodNamespaces, commands: list[str], reason: str, words: str
) -> None:
    for command in commands:
        run(*command.split())
    network = make_network()
    await network.start()
    condition = network.condition()
    assert (condition.ready, condition.reason) == (False, reason)
    assert "cridt0" in condition.message
    assert words in condition.message
    pod = pods.new()
    with pytest.raises(UnavailableError, match="cridt0"):
        await network.attach(pod)
    run("ip", "link", "delete", commands[0].split()[3])
    await until(lambda: network.condition().ready, "the network is ready")
    await network.attach(pod)


async def test_bridge_that_lost_its_address_in_a_crash_gets_it(make_network: MakeNetwork, pods: PodNamespaces) -> None:
    run("ip", "link", "add", "cridt0", "type", "bridge")
    network = make_network()
    await network.start()
    pod = pods.new()
    await network.attach(pod)
    ping(pod, "10.91.0.1")


@pytest.mark.parametrize("command", ["flush ruleset", "delete table inet crid-cridt0", "flush table inet crid-cridt0"])
@pytest.mark.parametrize("by", ["condition", "attach"])
async def test_table_is_restored(network: BridgeNetwork, pods: PodNamespaces, command: str, by: str) -> None:
    before = run("nft", "list", "ruleset")
    assert "masquerade" in before
    run("nft", *command.split())
    if by == "condition":
        assert network.condition().ready
    else:
        await network.attach(pods.new())
    await until(lambda: run("nft", "list", "ruleset") == before, "the rules are back")


@pytest.mark.parametrize(
    "command", ["ip link set cridt0 down", "ip address flush dev cridt0", "busybox sysctl -w net.ipv4.ip_forward=0"]
)
async def test_bridge_is_looked_after(
    network: BridgeNetwork, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    pod = pods.new()
    await network.attach(pod)
    run(*command.split())
    monkeypatch.setattr(bridge, "_CHECK_INTERVAL", 0.0)
    assert network.condition().ready
    assert network._recheck is not None
    await network._recheck
    ping(pod, "10.91.0.1")
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"


async def test_other_tables_survive(make_network: MakeNetwork) -> None:
    run("nft", "add", "table", "inet", "neighbour")
    network = make_network()
    await network.start()
    await network.close(remove=True)
    assert run("nft", "list", "tables").split() == ["table", "inet", "neighbour"]


async def test_missing_nft_is_a_condition(make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_program", lambda name, **keywords: None)
    network = make_network()
    await network.start()
    condition = network.condition()
    assert (condition.ready, condition.reason) == (False, "NftablesFailed")
    assert "nft" in condition.message


async def test_forwarding_is_enabled(make_network: MakeNetwork) -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    network = make_network()
    await network.start()
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"


async def test_remove_leaves_nothing_but_not_while_a_pod_is_left(
    network: BridgeNetwork, make_network: MakeNetwork, pods: PodNamespaces
) -> None:
    pod = pods.new()
    await network.attach(pod)
    await network.close(remove=True)
    ping(pod, "10.91.0.1")
    again = make_network()
    await again.start()
    await again.detach(pod)
    await again.close(remove=True)
    assert "cridt0" not in run("ip", "link")
    assert run("nft", "list", "ruleset") == ""


async def test_failed_removal_reaches_all_who_wait_and_is_retried(
    network: BridgeNetwork, pods: PodNamespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_pods = [pods.new() for _ in range(3)]
    for pod in all_pods:
        await network.attach(pod)
    with monkeypatch.context() as patch:
        patch.setattr(RouteSocket, "link", lambda self, name: (_ for _ in ()).throw(RouteError(errno.ENOMEM, "made to fail")))
        results = await asyncio.gather(*map(network.detach, all_pods), return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError] * 3
    assert len(network._addresses) == 3
    await asyncio.gather(*map(network.detach, all_pods))
    assert len(network._addresses) == 0
    assert pod_links() == set()
