"""Pod networks as the kubelet sees them: status, conflicts, restarts, and CNI configurations that come and go."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.daemon import Daemon, Settings
from tests.harness.network import run
from tests.harness.node import Node, Pod
from tests.harness.tools import eventually

pytestmark = pytest.mark.root

PREFIX = "fd95:1::/64"


@pytest.fixture
def node() -> Iterator[Node]:
    """A dual-stack daemon without any image: pods need none."""
    daemon = Daemon()
    daemon._settings = replace(Settings(), network={"subnet": f"{daemon.subnet},{PREFIX}"})
    with daemon:
        yield Node(daemon, "")


def run_pod(node: Node, *mappings: cri.PortMapping, name: str = "") -> Pod:
    config = node.pod_config(name=name)
    config.port_mappings.extend(mappings)
    return Pod(node, node.cri.run_pod(config), config)


def ips(node: Node, pod: Pod) -> list[str]:
    network = node.cri.pod_status(pod.id).network
    return [network.ip, *(item.ip for item in network.additional_ips)]


def network_ready(node: Node) -> cri.RuntimeCondition:
    (condition,) = (
        condition
        for condition in node.cri.runtime.Status(cri.StatusRequest()).status.conditions
        if condition.type == "NetworkReady"
    )
    return condition


def table(node: Node) -> str:
    return run("nft", "list", "ruleset")


HTTP = cri.PortMapping(protocol=cri.TCP, host_port=12080, container_port=80)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_addresses_and_host_ports_survive_the_daemon(node: Node, number: int) -> None:
    pod = run_pod(node, HTTP, name="web")
    before = ips(node, pod)
    assert [":" in address for address in before] == [False, True]
    assert table(node).count("tcp . 12080") == 2
    node.daemon.end_with(number)
    assert table(node).count("tcp . 12080") == 2
    run("nft", "delete", "table", "inet", f"crid-{node.daemon.bridge}")
    node.daemon.start()
    assert ips(node, pod) == before
    assert table(node).count("tcp . 12080") == 2
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "*:12080/tcp", "in use by pod default/web"):
        run_pod(node, HTTP, name="late")
    node.cri.stop_pod(pod.id)
    assert "12080" not in table(node)
    assert ips(node, run_pod(node, HTTP)) != before


def test_a_bad_mapping_is_refused_and_leaves_nothing(node: Node) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "port_mappings[0].host_ip"):
        run_pod(node, cri.PortMapping(host_port=1, container_port=1, host_ip="x"))
    assert node.cri.pods() == []


def test_a_pod_in_the_hosts_network_has_no_address_and_no_port(node: Node) -> None:
    config = node.pod_config(options=namespaces(network=cri.NODE))
    config.port_mappings.append(HTTP)
    pod = Pod(node, node.cri.run_pod(config), config)
    assert ips(node, pod) == [""]
    assert "12080" not in table(node)


def test_fifty_pods_at_once_have_fifty_addresses(node: Node) -> None:
    with ThreadPoolExecutor(50) as pool:
        pods = list(pool.map(lambda _: run_pod(node), range(50)))
    assert len({address for pod in pods for address in ips(node, pod)}) == 100


def test_network_ready_tells_the_truth_while_configurations_come_and_go(node: Node) -> None:
    directory = Path(node.daemon.directory, "no-cni")
    assert network_ready(node).status
    first = run_pod(node)
    broken = directory / "10-broken.conflist"
    broken.write_text('{"name":')
    eventually(lambda: not network_ready(node).status, "the broken configuration is noticed")
    condition = network_ready(node)
    assert condition.reason == "NetworkPluginNotReady"
    assert "10-broken.conflist" in condition.message
    with refused(grpc.StatusCode.UNAVAILABLE, "10-broken.conflist"):
        run_pod(node)
    assert node.cri.pods() == [first.id]
    broken.unlink()
    eventually(lambda: network_ready(node).status, "the network is ready again")
    ipam = {"type": "host-local", "dataDir": f"{node.daemon.directory}/ipam", "subnet": "10.94.0.0/24"}
    plugin = {"type": "bridge", "bridge": "cnit9", "isGateway": True, "ipam": ipam}
    (directory / "20.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": [plugin]}))
    try:
        eventually(lambda: "20.conflist" in node.daemon.log_text(), "the configuration is noticed")
        second = run_pod(node, HTTP)
        assert ips(node, second) == ["10.94.0.2"]
        node.daemon.restart(signal.SIGKILL)
        assert ips(node, second) == ["10.94.0.2"]
        node.cri.remove_all_pods()
        assert not list(Path(node.daemon.directory, "ipam").glob("*/10.*"))
        assert not list((node.daemon.root / "network" / "cni" / "results").iterdir())
    finally:
        run("ip", "link", "delete", "cnit9")
