"""crid.net.addresses: addresses that follow from others."""

from ipaddress import ip_address, ip_network

import pytest

from crid.net.addresses import gateway, mac_address


@pytest.mark.parametrize(("network", "expected"), [("10.88.0.0/16", "10.88.0.1/16"), ("fd91::/64", "fd91::1/64")])
def test_gateway_is_the_first_address(network: str, expected: str) -> None:
    assert str(gateway(ip_network(network))) == expected


@pytest.mark.parametrize(("address", "mac"), [("10.88.1.255", "0a:58:0a:58:01:ff"), ("fd91::a:2", "0a:58:00:0a:00:02")])
def test_mac_follows_from_the_address(address: str, mac: str) -> None:
    assert mac_address(ip_address(address)) == mac
