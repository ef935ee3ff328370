"""crid.net.hostports: who has which port. What the kernel does with it is in tests/integration/net."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import FailedPreconditionError
from crid.net.hostports import HostPorts, PortBook, pod_ports
from crid.net.plugin import PodNetwork, PortMapping
from crid.net.ruleset import PodPorts


def pod(name: str, *mappings: PortMapping) -> PodNetwork:
    return PodNetwork(f"id-{name}", "/ns", pod_name=name, pod_namespace="shop", port_mappings=mappings)


HTTP = PortMapping("tcp", 8080, 80)


def test_the_owner_and_the_port_are_named() -> None:
    book = PortBook()
    book.claim(pod("first", HTTP))
    with pytest.raises(FailedPreconditionError) as raised:
        book.claim(pod("second", PortMapping("tcp", 8080, 81, ip_address("::1"))))
    assert "[::1]:8080/tcp" in str(raised.value)
    assert "shop/first (id-first)" in str(raised.value)


def test_all_or_none() -> None:
    book = PortBook()
    book.claim(pod("first", HTTP))
    with pytest.raises(FailedPreconditionError):
        book.claim(pod("second", PortMapping("tcp", 1, 1), HTTP))
    book.claim(pod("third", PortMapping("tcp", 1, 1)))


def test_claiming_again_is_harmless() -> None:
    book = PortBook()
    book.claim(pod("first", HTTP))
    book.claim(pod("first", HTTP))
    assert len(book) == 1


def test_release_is_idempotent_and_leaves_nothing() -> None:
    book = PortBook()
    book.claim(pod("first", HTTP, PortMapping("udp", 53, 53)))
    book.claim(pod("second", PortMapping("udp", 54, 54)))
    for _ in range(2):
        book.release("id-first")
        assert len(book) == 1
    book.claim(pod("third", HTTP))


class SilentTable:
    """A table that has the pod's ports, and closes them."""

    def __init__(self, ports: PodPorts) -> None:
        self._ports: PodPorts | None = ports

    async def close(self, sandbox_id: str) -> PodPorts | None:
        ports, self._ports = self._ports, None
        return ports


async def test_ports_are_given_back_though_no_thread_can_be_had_to_forget_their_connections(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    first, second = (pod(name, PortMapping("udp", 53, 53)) for name in ("first", "second"))
    host_ports = HostPorts(SilentTable(pod_ports(first, ["10.0.0.2"], "crid0")))  # type: ignore[arg-type]  # as far as needed
    host_ports.claim(first)
    monkeypatch.setattr("asyncio.to_thread", refuse)
    await host_ports.close(first.sandbox_id)
    host_ports.claim(second)
    assert "old UDP connections may still lead elsewhere" in caplog.text


ADDRESSES: list[IPv4Address | IPv6Address | None] = [None, IPv4Address("127.0.0.1"), IPv6Address("::1")]
MAPPINGS = st.builds(PortMapping, st.sampled_from(["tcp", "udp"]), st.integers(1, 3), st.just(80), st.sampled_from(ADDRESSES))


@given(st.lists(st.lists(MAPPINGS, max_size=3), max_size=8))
def test_no_packet_is_ever_meant_for_two_pods(wanted: list[list[PortMapping]]) -> None:
    book = PortBook()
    owners: dict[tuple[str, int, object], str] = {}
    for number, mappings in enumerate(wanted):
        packets = {
            (mapping.protocol, mapping.host_port, address)
            for mapping in mappings
            for address in ([mapping.host_ip] if mapping.host_ip else ADDRESSES)
        }
        try:
            book.claim(pod(str(number), *mappings))
        except FailedPreconditionError:
            assert packets & owners.keys()
        else:
            assert not packets & owners.keys()
            owners |= dict.fromkeys(packets, str(number))
