"""Port-forward over SPDY: TCP into a pod's network, as a client sees it."""

import os
import socket
import threading

import pytest

from crid.cri import api_pb2 as cri
from tests.harness.configs import namespaces
from tests.harness.node import Node
from tests.harness.stream_clients import SpdyForwards
from tests.harness.stream_node import echo, forward_url, serving

flows = pytest.mark.parametrize("flow_control", [False, True], ids=["kubernetes", "windows"])


@flows
def test_bytes_pass_both_ways_and_each_half_ends_alone(node: Node, flow_control: bool) -> None:
    pod = node.pod()
    received = bytearray()

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            received.extend(data)
        connection.sendall(b"%d bytes" % len(received))

    data = os.urandom(2_000_003)
    with serving(pod, serve) as port, SpdyForwards(forward_url(pod), flow_control=flow_control) as forwards:
        forward = forwards.open(port)
        forward.send(data)
        forward.finish()
        assert forward.rest() == b"%d bytes" % len(data)
        assert forward.failure() == ""
    assert received == data


@flows
def test_a_server_that_ends_first_still_gets_the_rest(node: Node, flow_control: bool) -> None:
    pod = node.pod()
    received: list[bytes] = []
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"no more from me")
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            received.append(data)
        done.set()

    with serving(pod, serve) as port, SpdyForwards(forward_url(pod), flow_control=flow_control) as forwards:
        forward = forwards.open(port)
        assert forward.rest() == b"no more from me"
        forward.send(b"but from me")
        forward.finish()
        assert done.wait(30)
    assert b"".join(received) == b"but from me"


@flows
def test_many_connections_at_once(node: Node, flow_control: bool) -> None:
    pod = node.pod()
    with serving(pod, echo) as port, SpdyForwards(forward_url(pod), flow_control=flow_control) as forwards:
        opened = [forwards.open(port) for _ in range(60)]
        for number, forward in enumerate(opened):
            forward.send(b"%03d" % number * 1000)
        for number, forward in enumerate(opened):
            assert forward.receive(3000) == b"%03d" % number * 1000
        for forward in reversed(opened):
            forward.finish()
            assert forward.rest() == b""


def test_a_forward_that_nobody_reads_does_not_stop_the_others(node: Node) -> None:
    pod = node.pod()

    def pour(connection: socket.socket) -> None:
        while True:
            connection.sendall(bytes(65536))

    with (
        serving(pod, pour) as endless,
        serving(pod, echo) as port,
        SpdyForwards(forward_url(pod), flow_control=True) as forwards,
    ):
        stuck = forwards.open(endless)
        forwards.wire.keep(stuck.data)
        forward = forwards.open(port)
        for _ in range(20):
            forward.send(b"x")
            assert forward.receive(1) == b"x"
        forwards.wire.socket.close()


def test_a_port_where_nobody_listens_is_told_on_the_error_stream_and_others_go_on(node: Node) -> None:
    pod = node.pod()
    with serving(pod, echo) as port, SpdyForwards(forward_url(pod)) as forwards:
        assert "refused" in forwards.open(1).failure()
        forward = forwards.open(port)
        forward.send(b"x")
        assert forward.receive(1) == b"x"


def test_a_server_on_ipv6_alone_is_found(node: Node) -> None:
    pod = node.pod()
    with serving(pod, echo, host="::1") as port, SpdyForwards(forward_url(pod)) as forwards:
        forward = forwards.open(port)
        forward.send(b"six")
        assert forward.receive(3) == b"six"


def test_a_pod_of_the_hosts_network(node: Node) -> None:
    pod = node.pod(options=namespaces(network=cri.NODE))
    with serving(pod, echo) as port, SpdyForwards(forward_url(pod)) as forwards:
        forward = forwards.open(port)
        forward.send(b"host")
        assert forward.receive(4) == b"host"


def test_ports_in_the_request_are_the_only_ones(node: Node) -> None:
    pod = node.pod()
    with serving(pod, echo) as port, serving(pod, echo) as other, SpdyForwards(forward_url(pod, port)) as forwards:
        forward = forwards.open(port)
        forward.send(b"x")
        assert forward.receive(1) == b"x"
        assert str(other) in forwards.open(other).failure()


def test_a_client_that_vanishes_ends_its_connections(node: Node) -> None:
    pod = node.pod()
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        assert connection.recv(1) == b""
        ended.set()

    with serving(pod, serve) as port:
        with SpdyForwards(forward_url(pod)) as forwards:
            assert forwards.open(port).receive(5) == b"hello"
        assert ended.wait(30)
