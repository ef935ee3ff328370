"""crid.net.bridge without a kernel: what a constructor can refuse, and names. The rest is in tests/integration/net."""

import asyncio
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest

from crid.errors import DeadlineExceededError, InvalidArgumentError
from crid.net.bridge import BridgeNetwork, default_bridge
from crid.net.plugin import PodNetwork

NETWORK = IPv4Network("10.91.0.0/24")


@pytest.mark.parametrize("name", ["a" * 16, "a b", "a/b", ".", "..", "-a", 'a"b', "a;b", "ä", "a\n"])
def test_names_that_cannot_work_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="bridge"):
        BridgeNetwork(name, [NETWORK], Path("/nowhere"))


@pytest.mark.parametrize("networks", [[], [NETWORK, IPv4Network("10.92.0.0/24")]])
def test_networks_that_cannot_work_are_refused(networks: list[IPv4Network]) -> None:
    with pytest.raises(InvalidArgumentError, match="bridge b0"):
        BridgeNetwork("b0", networks, Path("/nowhere"))


def test_default_name_follows_from_the_network() -> None:
    assert default_bridge(ip_network("10.88.0.0/16")) == "crid0"
    names = {default_bridge(ip_network(network)) for network in ("10.89.0.0/16", "10.90.0.0/16", "fd91::/64", "fd92::/64")}
    assert len(names) == 4
    assert all(len(name) <= 15 for name in names)


async def test_close_without_start_is_harmless() -> None:
    network = BridgeNetwork("", [NETWORK], Path("/nowhere"))
    await network.close(remove=True)
    assert not network.condition().ready


async def test_pods_that_wait_for_the_kernel_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt may take a minute."""
    network = BridgeNetwork("", [NETWORK], Path("/nowhere"))
    attempts: list[str] = []

    class SilentKernel:
        async def run(self, what: str, *_: object) -> None:
            attempts.append(what)
            await asyncio.sleep(0)
            raise DeadlineExceededError(f"{what} did not end within 60 s")

    monkeypatch.setattr(network, "_connecting", SilentKernel(), raising=False)
    pods = [PodNetwork(str(number), "/ns") for number in range(10)]
    refused = await asyncio.gather(*map(network.attach, pods), return_exceptions=True)
    assert {(type(error), str(error)) for error in refused} == {
        (DeadlineExceededError, "bridge crid0a5b0000: looking after it did not end within 60 s")
    }
    assert len(attempts) <= 2
    assert network.condition().reason == "KernelSilent"
    await network._supervisor.close(0)
