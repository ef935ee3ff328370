"""crid.lifecycle.pod_network: host ports as clients ask for them."""

from ipaddress import ip_address

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.lifecycle.pod_network import port_mappings
from crid.net.plugin import PortMapping


def config(*mappings: cri.PortMapping, network: cri.NamespaceMode.ValueType = cri.POD) -> cri.PodSandboxConfig:
    found = cri.PodSandboxConfig(port_mappings=mappings)
    found.linux.security_context.namespace_options.network = network
    return found


def mapping(host_port: int = 8080, container_port: int = 80, host_ip: str = "", protocol: int = 0) -> cri.PortMapping:
    return cri.PortMapping(
        protocol=protocol,  # type: ignore[arg-type]  # also numbers that no protocol has
        host_port=host_port,
        container_port=container_port,
        host_ip=host_ip,
    )


@pytest.mark.parametrize(("number", "protocol"), [(cri.TCP, "tcp"), (cri.UDP, "udp"), (cri.SCTP, "sctp")])
def test_protocols(number: int, protocol: str) -> None:
    assert port_mappings(config(mapping(protocol=number))) == (PortMapping(protocol, 8080, 80),)


def test_an_ipv4_address_written_as_one_of_ipv6_is_that_address() -> None:
    assert port_mappings(config(mapping(host_ip="::ffff:127.0.0.1")))[0].host_ip == ip_address("127.0.0.1")


@pytest.mark.parametrize("text", ["", "0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_unspecified_addresses_mean_all(text: str) -> None:
    assert port_mappings(config(mapping(host_ip=text)))[0].host_ip is None


@pytest.mark.parametrize("text", ["127.0.0.1", "fd00::1"])
def test_one_address(text: str) -> None:
    assert port_mappings(config(mapping(host_ip=text)))[0].host_ip == ip_address(text)


def test_ports_without_a_host_port_are_none() -> None:
    assert port_mappings(config(mapping(host_port=0), mapping(host_port=0, container_port=0))) == ()


def test_a_pod_in_the_hosts_network_has_none() -> None:
    assert port_mappings(config(mapping(), network=cri.NODE)) == ()


def test_the_same_twice_is_one() -> None:
    assert len(port_mappings(config(mapping(), mapping(host_ip="0.0.0.0"), mapping(protocol=cri.UDP)))) == 2


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (mapping(host_port=-1), "port_mappings[1].host_port"),
        (mapping(host_port=65536), "port_mappings[1].host_port"),
        (mapping(container_port=0), "port_mappings[1].container_port"),
        (mapping(container_port=70000), "port_mappings[1].container_port"),
        (mapping(protocol=7), "port_mappings[1].protocol"),
        (mapping(host_ip="localhost"), "port_mappings[1].host_ip"),
        (mapping(host_ip="127.1"), "port_mappings[1].host_ip"),
        (mapping(host_ip="fe80::1%eth0"), "port_mappings[1].host_ip"),
        (mapping(host_ip="1.2.3.4; flush ruleset"), "port_mappings[1].host_ip"),
        (mapping(container_port=81), "port_mappings[1]: host port *:8080/tcp leads to container port 80"),
    ],
)
def test_what_can_only_be_wrong_is_refused_by_name(bad: cri.PortMapping, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        port_mappings(config(mapping(), bad))
    assert named in str(raised.value)
