"""What the RPCs refuse, what the server refuses, and peers that break every rule: the daemon goes on."""

import contextlib
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.node import Node
from tests.harness.stream_clients import SpdyCommand, SpdyForwards, WebSocketCommand
from tests.harness.stream_node import attach_url, exec_url, forward_url
from tests.harness.stream_wires import Refused, Spdy, connect, upgrade

SPDY_HEADERS = [("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")]


@pytest.fixture
def container(crun_node: Node) -> Iterator[str]:
    """A running container; when the test is over the daemon must serve as before."""
    identifier = crun_node.pod().sleeper()
    yield identifier
    with SpdyCommand(exec_url(crun_node, identifier, "echo", "still serving")) as command:
        assert command.result().stdout == b"still serving\n"
    crun_node.clean()


def test_requests_that_make_no_sense_are_refused(crun_node: Node, container: str) -> None:
    runtime = crun_node.cri.runtime
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "at least one"):
        runtime.Exec(cri.ExecRequest(container_id=container, cmd=["true"]))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "stderr"):
        runtime.Exec(cri.ExecRequest(container_id=container, cmd=["true"], stdout=True, stderr=True, tty=True))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "cmd"):
        runtime.Exec(cri.ExecRequest(container_id=container, stdout=True))
    with refused(grpc.StatusCode.NOT_FOUND, "no-such"):
        runtime.Exec(cri.ExecRequest(container_id="no-such", cmd=["true"], stdout=True))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "at least one"):
        runtime.Attach(cri.AttachRequest(container_id=container))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "stderr"):
        runtime.Attach(cri.AttachRequest(container_id=container, stdout=True, stderr=True, tty=True))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "70000"):
        runtime.PortForward(cri.PortForwardRequest(pod_sandbox_id=crun_node.cri.pods()[0], port=[80, 70000]))
    with refused(grpc.StatusCode.NOT_FOUND, "no-such"):
        runtime.PortForward(cri.PortForwardRequest(pod_sandbox_id="no-such"))


def test_what_does_not_run_has_no_streams(crun_node: Node, container: str) -> None:
    pod = crun_node.pod()
    created = pod.create("true")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "not running"):
        exec_url(crun_node, created, "true")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "not running"):
        attach_url(crun_node, created, stdout=True)
    crun_node.cri.stop_pod(pod.id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "stopped"):
        forward_url(pod)


def test_a_url_is_good_once_for_what_it_was_given_for(crun_node: Node, container: str) -> None:
    url = exec_url(crun_node, container, "true")
    assert urlsplit(url).hostname == "127.0.0.1"
    assert len(urlsplit(url).path.rpartition("/")[2]) >= 22, "128 bits need as many characters"
    with SpdyCommand(url) as command:
        command.result()
    bad = [url, url[:-1], url + "x", f"{url}/", url.replace("/exec/", "/attach/"), url.partition("/exec/")[0] + "/", ""]
    bad += [exec_url(crun_node, container, "true").replace("/exec/", kind) for kind in ("/attach/", "/portforward/", "/")]
    answers = []
    for attempt in filter(None, bad):
        with pytest.raises(Refused) as caught:
            upgrade(attempt, SPDY_HEADERS)
        answers.append((caught.value.answer.status, caught.value.answer.body))
    assert set(answers) == {(404, b"not found\n")}, "every wrong URL looks the same"


def test_the_token_is_not_logged(crun_node: Node, container: str) -> None:
    url = exec_url(crun_node, container, "true")
    with SpdyCommand(url) as command:
        command.result()
    assert urlsplit(url).path.rpartition("/")[2] not in crun_node.daemon.log_text()


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ([], "POST", 400),
        ([("Upgrade", "h2c")], "POST", 400),
        ([("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v9.channel.k8s.io")], "POST", 403),
        (SPDY_HEADERS, "DELETE", 405),
        ([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")], "GET", 400),
        ([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "A" * 22 + "==")], "GET", 400),
    ],
)
def test_a_request_that_cannot_be_upgraded_is_told_why(
    crun_node: Node, container: str, headers: list[tuple[str, str]], method: str, status: int
) -> None:
    with pytest.raises(Refused) as caught:
        upgrade(exec_url(crun_node, container, "true"), headers, method=method)
    assert caught.value.answer.status == status
    assert container not in caught.value.answer.body.decode()


def test_too_many_offers_are_refused_until_some_are_taken(crun_node: Node, container: str) -> None:
    with contextlib.ExitStack() as stack:
        urls: list[str] = []
        stack.callback(crun_node.daemon.restart)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "1000"):
            while len(urls) <= 1000:
                urls.append(exec_url(crun_node, container, "true"))
        with SpdyCommand(urls[-1]) as command:  # the last to expire
            command.result()
        exec_url(crun_node, container, "true")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64),
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10000,
        b"GET /" + b"a" * 100_000,
        b"GET /exec/x HTTP/9.9\r\n\r\n",
        b"POST /exec/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"\r\n" * 50_000,
        b"\x00" * 100_000,
    ],
    ids=["tls", "headers", "target", "version", "lengths", "lines", "zeros"],
)
def test_what_is_no_request_is_answered_and_closed(crun_node: Node, container: str, garbage: bytes) -> None:
    with connect(exec_url(crun_node, container, "true")) as connection:
        with contextlib.suppress(OSError):  # a connection that was reset meanwhile is "not connected" to shutdown(2)
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                answer += data
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer


def frame(kind: int, payload: bytes, flags: int = 0, version: int = 3) -> bytes:
    """Return a SPDY control frame."""
    return struct.pack("!HHI", 0x8000 | version, kind, flags << 24 | len(payload)) + payload


BOMB = zlib.compress(bytes(64 * 1024 * 1024), 9)[:60_000]
SPDY_GARBAGE = {
    "noise": bytes(range(255, 0, -1)) * 1000,
    "version": frame(1, bytes(20), version=2),
    "unknown length": struct.pack("!HHI", 0x8003, 1, 0xFFFFFF) + bytes(100_000),
    "header bomb": frame(1, struct.pack("!IIH", 1, 0, 0) + BOMB),
    "header noise": frame(1, struct.pack("!IIH", 1, 0, 0) + os.urandom(1000)),
    "even stream": frame(1, struct.pack("!IIH", 2, 0, 0)),
    "window overflow": frame(9, struct.pack("!II", 0, 0x7FFFFFFF)) * 3,
    "short settings": frame(4, b"\0"),
}


@pytest.mark.parametrize("garbage", SPDY_GARBAGE.values(), ids=SPDY_GARBAGE)
@pytest.mark.parametrize("kind", ["exec", "portforward"])
def test_broken_spdy_is_answered_by_a_goaway(crun_node: Node, container: str, kind: str, garbage: bytes) -> None:
    if kind == "exec":
        wire = Spdy(exec_url(crun_node, container, "true"), ["v4.channel.k8s.io"])
    else:
        pod = crun_node.cri.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
        assert pod.status.id == container
        request = cri.PortForwardRequest(pod_sandbox_id=crun_node.cri.pods()[0])
        wire = Spdy(crun_node.cri.runtime.PortForward(request).url, ["portforward.k8s.io"])
    with wire:
        with contextlib.suppress(ConnectionError):
            wire.socket.sendall(garbage)
        wire.until_end()
        assert wire.going_away


WEBSOCKET_GARBAGE = {
    "reserved bits": b"\xf2\x80\0\0\0\0",
    "unmasked": b"\x82\x05\0hell",
    "unknown opcode": b"\x83\x80\0\0\0\0",
    "long control": b"\x89\xfe\x00\x80\0\0\0\0" + bytes(128),
    "negative length": b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
    "continuation": b"\x80\x80\0\0\0\0",
    "unknown channel": b"\x82\x82\0\0\0\0\x63x",
    "noise": os.urandom(1000),
}


@pytest.mark.parametrize("garbage", WEBSOCKET_GARBAGE.values(), ids=WEBSOCKET_GARBAGE)
def test_broken_websocket_is_answered_by_a_close(crun_node: Node, container: str, garbage: bytes) -> None:
    with WebSocketCommand(exec_url(crun_node, container, "cat", stdin=True, stdout=True)) as command:
        with contextlib.suppress(OSError):  # as above
            command.wire.socket.sendall(garbage)
            command.wire.socket.shutdown(socket.SHUT_WR)
        command.wire.until_end()


def test_more_streams_than_the_limit_are_refused_one_by_one(crun_node: Node, container: str) -> None:
    pod = crun_node.cri.pods()[0]
    url = crun_node.cri.runtime.PortForward(cri.PortForwardRequest(pod_sandbox_id=pod)).url
    with SpdyForwards(url) as forwards:
        streams = [
            forwards.wire.spdy.open_stream({"streamtype": "error", "port": "1", "requestid": str(n)}) for n in range(700)
        ]
        forwards.wire.flush()
        forwards.wire.until(lambda: forwards.wire.resets, "a refusal")
        assert set(streams[:100]).isdisjoint(forwards.wire.resets)
        assert "Connect" not in forwards.wire.answer.body.decode()
