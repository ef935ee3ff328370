"""What real clients sent, replayed: cut in any way, it gives the same events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from crid.wire import portforward, remotecommand
from crid.wire.session import (
    ClientGone,
    CommandSession,
    ForwardClosed,
    ForwardData,
    ForwardOpened,
    ForwardPending,
    ForwardSession,
    Ready,
    Resize,
    StdinClosed,
    StdinData,
    Streams,
)
from crid.wire.upgrade import HttpUpgrade
from tests.wire.playbook import expect_for_every_split

GOLDEN = Path(__file__).parent / "golden"
GONE = ClientGone("the client closed the connection")
TWO_FORWARDS = [
    ForwardPending("0"),
    ForwardOpened(3, 80),
    ForwardData(3, b"ping0"),
    ForwardClosed(3),
    ForwardPending("1"),
    ForwardOpened(7, 80),
    ForwardData(7, b"ping1"),
    ForwardClosed(7),
]
OUTPUT = Streams(stdout=True, stderr=True)
INPUT = Streams(stdin=True, stdout=True, stderr=True)
TERMINAL = Streams(stdin=True, stdout=True, tty=True)


class Server:
    """A connection from its first byte: the HTTP request, then the session."""

    def __init__(self, streams: Streams | None) -> None:
        self.streams = streams
        self.http = HttpUpgrade()
        self.session: CommandSession | ForwardSession | None = None
        self.protocol = ""

    def receive_data(self, data: bytes) -> Sequence[Any]:
        if self.session is not None:
            return self.session.receive_data(data)
        request = self.http.receive_data(data)
        if request is None:
            return []
        assert request.transport is not None
        if self.streams is None:
            protocol = portforward.negotiate(request.offered, request.transport)
            assert protocol is not None
            self.session = portforward.forward_session(protocol, request.transport)
        else:
            protocol = remotecommand.negotiate(request.offered, request.transport)
            assert protocol is not None
            self.session = remotecommand.command_session(protocol, request.transport, self.streams)
        _, rest = self.http.accept(protocol)
        return [protocol, *self.session.start(), *self.session.receive_data(rest)]


CASES: list[tuple[str, Streams | None, list[Any]]] = [
    ("exec-spdy", OUTPUT, ["v4.channel.k8s.io", Ready()]),
    ("exec-websocket", OUTPUT, ["v5.channel.k8s.io", Ready(), GONE]),
    ("stdin-spdy", INPUT, ["v4.channel.k8s.io", Ready(), StdinData(b"abc\ndef\n"), StdinClosed()]),
    ("stdin-websocket", INPUT, ["v5.channel.k8s.io", Ready(), StdinData(b"abc\ndef\n"), StdinClosed(), GONE]),
    ("tty-spdy", TERMINAL, ["v4.channel.k8s.io", Ready(), Resize(80, 24), StdinData(b"hi\n")]),
    ("tty-websocket", TERMINAL, ["v5.channel.k8s.io", Ready(), Resize(80, 24), StdinData(b"hi\n"), GONE]),
    ("pf-spdy", None, ["portforward.k8s.io", *TWO_FORWARDS]),
    ("pf-websocket", None, ["SPDY/3.1+portforward.k8s.io", *TWO_FORWARDS]),
]


@pytest.mark.parametrize(("name", "streams", "expected"), CASES, ids=[case[0] for case in CASES])
def test_crictl_is_understood_however_its_bytes_are_cut(name: str, streams: Streams | None, expected: list[Any]) -> None:
    expect_for_every_split(lambda: Server(streams), (GOLDEN / f"{name}.bin").read_bytes(), expected)
