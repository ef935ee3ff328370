"""1,000 pods come and go: no link, rule, address, file or namespace is left of them."""

import asyncio
import gc
from dataclasses import replace
from pathlib import Path

import pytest

from crid.net.bridge import BridgeNetwork
from crid.net.plugin import PodNetwork, PortMapping
from tests.harness.network import PodNamespaces, pod_links, run
from tests.integration.net.conftest import SUBNET, SUBNET6, MakeNetwork

pytestmark = pytest.mark.root

PODS, AT_ONCE, WITH_PORTS = 1000, 50, 4


def traces(directory: Path) -> dict[str, object]:
    """Return all that a pod could leave: what is in the kernel, and files with their sizes but for the journal's."""
    gc.collect()  # what earlier tests have left open is not closed in between
    return {
        "links": pod_links(),
        "table": run("nft", "list", "ruleset"),
        # Without the links' state, which a bridge whose last port has gone changes a moment later.
        "addresses": [[name, *held] for name, _, *held in map(str.split, run("ip", "-brief", "address").splitlines())],
        "neighbours": [line for line in run("ip", "neighbour").splitlines() if "PERMANENT" in line],
        "files": sorted(str(path) for path in directory.rglob("*") if not path.is_dir()),
        "mounts": Path("/proc/self/mountinfo").read_text().count(str(directory)),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


async def test_a_thousand_pods_leave_nothing(make_network: MakeNetwork, tmp_path: Path) -> None:
    network = make_network(subnets=(SUBNET, SUBNET6))
    await network.start()
    await network.retain([])
    await one_batch(network, tmp_path, 0)
    before = traces(tmp_path)
    for number in range(PODS // AT_ONCE):
        await one_batch(network, tmp_path, number)
    assert traces(tmp_path) == before
    assert len(network._addresses) == 0


async def one_batch(network: BridgeNetwork, directory: Path, number: int) -> None:
    """Start and remove 50 pods at once, each twentieth of which has host ports."""
    (directory / "ns").mkdir(exist_ok=True)
    namespaces = PodNamespaces(directory / "ns")
    pods = [namespaces.new() for _ in range(AT_ONCE)]
    pods[:WITH_PORTS] = [with_port(pod, index) for index, pod in enumerate(pods[:WITH_PORTS])]
    attachments = await asyncio.gather(*map(network.attach, pods))
    assert len({ip for attachment in attachments for ip in attachment.ips}) == 2 * AT_ONCE
    if number % 2:
        namespaces.close()
    await asyncio.gather(*map(network.detach, pods))
    namespaces.close()
    for pod in pods:
        Path(pod.namespace_path).parent.rmdir()


def with_port(pod: PodNetwork, index: int) -> PodNetwork:
    return replace(pod, port_mappings=(PortMapping("tcp", 20000 + index, 80), PortMapping("udp", 20000 + index, 53)))
