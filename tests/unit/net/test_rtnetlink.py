"""crid.net.rtnetlink against the kernel's read-only answers, which need no root, and against hand-made refusals."""

import errno
import os
import socket
import struct
import subprocess
import sys
from ipaddress import ip_address

import pytest

from crid.net import rtnetlink
from crid.net.rtnetlink import RouteError, RouteSocket, _raise_refusal, _split
from tests.harness.network import private_host, run


def test_loopback_is_found_by_name_and_in_the_list() -> None:
    with RouteSocket() as route:
        loopback = route.link("lo")
        assert loopback is not None
        assert loopback.index == socket.if_nametoindex("lo")
        assert loopback in route.links()


def test_a_name_that_no_link_has() -> None:
    with RouteSocket() as route:
        assert route.link("nosuchlink0") is None


def test_addresses_of_the_loopback() -> None:
    with RouteSocket() as route:
        assert "127.0.0.1/8" in {f"{ip}/{prefix}" for ip, prefix in route.addresses(socket.if_nametoindex("lo"))}


def test_routes() -> None:
    with RouteSocket() as route:
        routes = route.routes()
    assert "127.0.0.0/8" in {str(entry.destination) for entry in routes}


def test_the_way_to_an_address() -> None:
    with RouteSocket() as route:
        assert route.route_to(ip_address("127.0.0.1")) == socket.if_nametoindex("lo")
        assert route.route_to(ip_address("::1")) == socket.if_nametoindex("lo")


@pytest.mark.root
def test_a_default_route_leads_everywhere() -> None:
    if os.geteuid():
        pytest.skip("needs root")
    with private_host():
        with RouteSocket() as route, pytest.raises(RouteError, match=r"look up the route to 192\.0\.2\.1: Network is unreach"):
            route.route_to(ip_address("192.0.2.1"))
        run("ip", "route", "add", "default", "dev", "lo")
        with RouteSocket() as route:
            found = {(str(entry.destination), entry.link) for entry in route.routes()}
    assert ("0.0.0.0/0", 1) in found


def test_refusal_names_the_purpose_and_the_socket_stays_usable() -> None:
    with RouteSocket() as route:
        with pytest.raises(RouteError, match="bring interface 2147483646 up: ") as caught:
            route.send(rtnetlink.set_up(2147483646), rtnetlink.set_up(2147483645))
        assert caught.value.errno in (errno.ENODEV, errno.EPERM)
        assert route.link("lo") is not None


def refusal(number: int, flags: int, attributes: bytes = b"") -> bytes:
    echoed = bytes(16)
    return struct.pack("=IHHIIi", 36 + len(attributes), 2, flags, 1, 0, -number) + echoed + attributes


def test_kernels_own_words_are_in_the_error() -> None:
    text = b"Device is a loop\0"
    attribute = struct.pack("=HH", 4 + len(text), 1) + text + bytes(-len(text) % 4)
    with pytest.raises(RouteError, match=r"plug: Too many levels of symbolic links: Device is a loop$"):
        _raise_refusal(refusal(errno.ELOOP, 0x300, attribute), 0x300, "plug")


@pytest.mark.parametrize("attributes", [b"", b"\0\0\0\0", b"\1\0\1\0", struct.pack("=HH", 200, 1) + b"cut"])
def test_damaged_words_of_the_kernel_do_no_harm(attributes: bytes) -> None:
    with pytest.raises(RouteError, match="plug: "):
        _raise_refusal(refusal(errno.EINVAL, 0x300, attributes), 0x300, "plug")


def test_success_raises_nothing() -> None:
    _raise_refusal(refusal(0, 0), 0, "plug")


def test_datagram_of_several_messages_is_split_at_aligned_offsets() -> None:
    first = struct.pack("=IHHII", 18, 16, 0, 7, 0) + b"ab" + bytes(2)
    second = struct.pack("=IHHII", 16, 3, 0, 8, 0)
    assert [(kind, sequence) for kind, _, sequence, _ in _split(first + second)] == [(16, 7), (3, 8)]


def answer(sequence: int, *messages: bytes, flags: int = 0) -> bytes:
    """A whole dump in one datagram; `flags` are those of its end."""
    numbered = [message[:8] + struct.pack("=I", sequence) + message[12:] for message in messages]
    return b"".join([*numbered, struct.pack("=IHHIIi", 20, 3, flags, sequence, 0, 0)])


@pytest.mark.parametrize("interrupted", [1, 3])
def test_a_list_during_which_something_changed_is_asked_for_again(interrupted: int) -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with RouteSocket() as route, kernel:
        loopback = route.link("lo")
        request = rtnetlink.Request(rtnetlink._RTM_GETLINK, 0, rtnetlink._link(attrs=[("IFLA_IFNAME", "lo")]), "look up lo")
        (message,) = route._exchange(request, rtnetlink._NLM_F_ACK)
        ours.settimeout(rtnetlink.TIMEOUT)
        route._socket.close()
        route._socket, route._sequence = ours, 0
        for sequence in range(1, interrupted + 1):
            kernel.send(answer(sequence, flags=0x10))
        kernel.send(answer(interrupted + 1, message))
        assert route.links() == [loopback]


def test_a_host_that_never_rests_is_listed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtnetlink, "_NLM_F_DUMP_INTR", 0x2)  # NLM_F_MULTI: what every message of a list has
    with RouteSocket() as route:
        assert route.link("lo") in route.links()


def test_only_the_messages_of_pyroute2_are_loaded_and_all_of_it_can_be_later() -> None:
    program = """
import sys
from ipaddress import ip_address
import crid.net.rtnetlink
assert "pyroute2" not in sys.modules and "pyroute2.ndb" not in sys.modules
from pyroute2 import IPRoute
with IPRoute() as route:
    assert route.link_lookup(ifname="lo")
with crid.net.rtnetlink.RouteSocket() as route:
    assert route.link("lo")
"""
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert completed.returncode == 0, completed.stderr


def test_a_kernel_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtnetlink, "TIMEOUT", 0.05)
    ours, silent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with RouteSocket() as route, silent:
        ours.settimeout(route._socket.gettimeout())
        route._socket.close()
        route._socket = ours
        with pytest.raises(RouteError, match=r"look up interface lo: the kernel did not answer within 0\.05 s") as caught:
            route.link("lo")
        assert caught.value.errno == errno.ETIMEDOUT
