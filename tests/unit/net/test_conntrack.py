"""crid.net.conntrack against the kernel's own table, in a network namespace of the test's. With root only."""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from crid.net import conntrack
from crid.net.conntrack import forget_udp
from tests.harness.network import private_host, run

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(os.geteuid()), reason="needs root")]


class Message(bytes):
    """A message of the kernel's that is counted while anybody keeps it."""

    kept = 0

    def __new__(cls, content: bytes) -> "Message":
        cls.kept += 1
        return super().__new__(cls, content)

    def __del__(self) -> None:
        Message.kept -= 1


def test_connections_to_other_ports_are_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    def listed(*_: object) -> Iterator[bytes]:
        nonlocal most
        for _number in range(1000):
            yield Message(bytes(200))
            most = max(most, Message.kept)

    monkeypatch.setattr(conntrack, "_exchange", listed)
    assert forget_udp([(None, 4001)]) == 0
    assert most < 10


def test_only_udp_to_the_port_and_address_is_forgotten() -> None:
    with private_host():
        # Entries are only kept where somebody asks for them.
        run(
            "nft",
            "-f",
            "-",
            stdin="table inet t {\nchain c {\ntype filter hook output priority 0;\nct state new accept\n}\n}\n",
        )
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
        ):
            sender.sendto(b"x", ("127.0.0.1", 4001))
            sender.sendto(b"x", ("127.0.0.2", 4001))
            sender.sendto(b"x", ("127.0.0.1", 4002))
            six.sendto(b"x", ("::1", 4001))
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]):
            assert forget_udp([(None, server.getsockname()[1])]) == 0
        assert forget_udp([(ip_address("127.0.0.2"), 4001)]) == 1
        assert forget_udp([(None, 4001)]) == 2
        assert forget_udp([(None, 4001)]) == 0
        assert forget_udp([(None, 4003), (ip_address("127.0.0.1"), 4002)]) == 1
        assert forget_udp([]) == 0
