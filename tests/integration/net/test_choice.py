"""Which network a pod gets, and that it is detached by whoever attached it, also after a restart."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from crid.model.sandbox import NetworkAttachment
from crid.net.bridge import BridgeNetwork
from crid.net.choice import ChosenNetwork
from crid.net.cni import CniNetwork
from crid.net.plugin import PodNetwork, PortMapping
from crid.net.table import listed_ports
from tests.harness.cni import REAL, CniDirectory
from tests.harness.network import PodNamespaces, ping, pod_links, run
from tests.harness.peers import ask, serving
from tests.harness.tools import until
from tests.integration.net.conftest import SUBNET

pytestmark = pytest.mark.root

HTTP = PortMapping("tcp", 12000, 80)
MakeChoice = Callable[[], ChosenNetwork]


@pytest.fixture
async def make(host: None, tmp_path: Path, cni: CniDirectory) -> AsyncIterator[MakeChoice]:
    made: list[ChosenNetwork] = []

    def choice() -> ChosenNetwork:
        bridge = BridgeNetwork("cridt0", [ip_network(SUBNET)], tmp_path / "network")
        network = CniNetwork(cni.configurations, [cni.programs, REAL], cni.cache, bridge.host_ports)
        made.append(ChosenNetwork(bridge, network))
        return made[-1]

    yield choice
    for network in made:
        await network.close()


async def started(make: MakeChoice, *pods: tuple[PodNetwork, NetworkAttachment]) -> ChosenNetwork:
    network = make()
    await network.start()
    await network.retain([replace(pod, attachment=attachment) for pod, attachment in pods])
    return network


async def until_ready(network: ChosenNetwork, words: str) -> None:
    await until(lambda: network.condition().ready and words in repr(network), f"{words} is ready")


def links() -> set[str]:
    return {line.split()[0] for line in run("ip", "-brief", "link").splitlines()}


async def test_without_a_configuration_it_is_the_bridge(make: MakeChoice, pods: PodNamespaces) -> None:
    network = await started(make)
    assert network.condition().ready
    assert (await network.attach(pods.new())).ips == ("10.91.0.2",)


async def test_with_a_configuration_no_bridge_and_no_table_is_made(
    make: MakeChoice, cni: CniDirectory, pods: PodNamespaces
) -> None:
    cni.write_list(cni.bridge(), version="1.0.0")
    network = await started(make)
    assert network.condition().ready
    assert (await network.attach(pods.new())).ips == ("10.93.0.2",)
    assert "cridt0" not in links()
    assert "crid-" not in run("nft", "list", "tables")


async def test_pods_keep_what_they_have_when_a_configuration_appears_and_goes(
    make: MakeChoice, cni: CniDirectory, pods: PodNamespaces
) -> None:
    network = await started(make)
    first, second, third = pods.new(), pods.new(), pods.new()
    await network.attach(first)
    file = cni.write_list(cni.bridge(), version="1.0.0")
    await until_ready(network, "CniNetwork")
    assert (await network.attach(second)).ips == ("10.93.0.2",)
    ping(first, "10.91.0.1")
    file.unlink()
    await until_ready(network, "BridgeNetwork")
    assert (await network.attach(third)).ips == ("10.91.0.3",)
    ping(second, "10.93.0.1")
    for pod in (first, second, third):
        await network.detach(pod)
        await network.detach(pod)
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())


async def test_a_restart_under_the_other_kind_releases_and_keeps(
    make: MakeChoice, cni: CniDirectory, pods: PodNamespaces
) -> None:
    network = await started(make)
    kept, gone, late = pods.new(), pods.new(), pods.new()
    kept_attachment = await network.attach(kept)
    await network.attach(gone)
    await network.close()
    cni.write_list(cni.bridge(), version="1.0.0")
    network = await started(make, (kept, kept_attachment))
    assert len(pod_links()) == 1
    late_attachment = await network.attach(late)
    assert late_attachment.ips == ("10.93.0.2",)
    await network.close()
    for file in cni.configurations.iterdir():
        file.unlink()
    network = await started(make, (kept, kept_attachment), (late, late_attachment))
    ping(kept, "10.91.0.1")
    ping(late, "10.93.0.1")
    await network.detach(kept)
    await network.detach(late)
    assert (cni.leases(), cni.cached(), pod_links()) == ([], [], set())


async def test_host_ports_of_a_pod_that_is_gone_are_closed_though_nobody_has_any_now(
    make: MakeChoice, cni: CniDirectory, pods: PodNamespaces
) -> None:
    cni.write_list(cni.bridge(), version="1.0.0")
    network = await started(make)
    await network.attach(replace(pods.new(), port_mappings=(HTTP,)))
    assert len(await listed_ports("cridt0")) == 1
    await network.close()
    await started(make)
    assert await listed_ports("cridt0") == []


async def test_a_bridge_that_no_pod_needs_any_more_is_not_made_again(
    make: MakeChoice, cni: CniDirectory, pods: PodNamespaces
) -> None:
    network = await started(make)
    pod = pods.new()
    await network.attach(pod)
    await network.detach(pod)
    await network.close()
    cni.write_list(cni.bridge(), version="1.0.0")
    await (await started(make)).close()
    run("ip", "link", "delete", "cridt0")
    await started(make)
    assert "cridt0" not in links()


@pytest.mark.parametrize("flush", [False, True])
async def test_host_ports_are_crids_where_no_plugin_maps_them(
    make: MakeChoice, cni: CniDirectory, pods: PodNamespaces, flush: bool
) -> None:
    cni.write_list(cni.bridge(hairpinMode=True), version="1.0.0")
    network = await started(make)
    pod = replace(pods.new(), port_mappings=(HTTP,))
    attachment = await network.attach(pod)
    with serving(pod, 80, "web"):
        assert ask(None, "127.0.0.1", 12000).startswith("web ")
        assert ask(pod, "10.93.0.1", 12000).startswith("web ")
        if flush:
            run("nft", "flush", "ruleset")
            network.condition()
            assert network._upkeep is not None
            await network._upkeep
            assert ask(None, "127.0.0.1", 12000).startswith("web ")
        await network.close()
        network = await started(make, (pod, attachment))
        assert ask(None, "127.0.0.1", 12000).startswith("web ")
    await network.detach(pod)
    assert "12000" not in run("nft", "list", "ruleset")
    assert "cridt0" not in links()


async def test_host_ports_are_the_plugins_where_one_maps_them(make: MakeChoice, cni: CniDirectory, pods: PodNamespaces) -> None:
    cni.write_list(cni.bridge(), {"type": "portmap", "capabilities": {"portMappings": True}}, version="1.0.0")
    network = await started(make)
    pod = replace(pods.new(), port_mappings=(HTTP,))
    await network.attach(pod)
    with serving(pod, 80, "web"):
        assert ask(None, "10.93.0.1", 12000).startswith("web ")
    assert "crid-" not in run("nft", "list", "tables")
    await network.detach(pod)
    assert "12000" not in run("iptables-save")
