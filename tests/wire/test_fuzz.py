"""Whatever bytes come, a session never raises, holds no more than it was sent, ends at most once, and sees the same
however the bytes are cut."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason

from crid.wire.portforward import forward_session
from crid.wire.protocol import RemoteProtocolError
from crid.wire.remotecommand import PROTOCOLS, Transport, command_session
from crid.wire.session import ClientGone, CommandSession, ForwardSession, Streams
from crid.wire.spdy import Role, SpdyConnection
from crid.wire.spdy.events import ConnectionFailed
from crid.wire.upgrade import HttpUpgrade
from crid.wire.websocket import WebSocket
from tests.wire.clients import request_head, websocket_head
from tests.wire.playbook import cut, events_of, joined

ALL = Streams(stdin=True, stdout=True, stderr=True)
TUNNELLED = "SPDY/3.1+portforward.k8s.io"
SessionMaker = Callable[[], CommandSession | ForwardSession]


def spdy_traffic() -> bytes:
    """A bit of everything a SPDY client may send, for exec and for port-forward."""
    client = SpdyConnection(Role.CLIENT)
    client.start()
    for kind in ("error", "stdin", "stdout", "resize"):
        client.open_stream({"streamType": kind})
    client.send_data(3, b"input " * 50)
    client.send_data(7, b'{"Width":80,"Height":24}\n')
    client.send_headers(3, {"more": "headers"})
    client.ping()
    for kind in ("error", "data"):
        client.open_stream({"streamType": kind, "port": "80", "requestID": "0"})
    client.send_data(11, b"request")
    client.finish(11)
    client.finish(3)
    client.reset(5)
    client.go_away()
    return client.data_to_send()


def websocket_traffic(*, is_base64: bool) -> bytes:
    """Messages for every channel, the close signal, a ping, a close."""
    client = WebSocket(client=True)
    for message in (b"\0input", b'\x04{"Width":80,"Height":24}', b"\1no", b"\xff\0", b"", b"\0" + b"x" * 70000):
        if is_base64:
            client.send(b"0aW5wdXQ=" if message else b"", text=True)
        else:
            client.send(message)
    client.ping()
    client.send(b"\0text", text=True)
    client.close()
    return client.data_to_send()


def tunnelled_traffic() -> bytes:
    """SPDY in messages."""
    client = WebSocket(client=True)
    data = spdy_traffic()
    for start in range(0, len(data), 40):
        client.send(data[start : start + 40])
    client.close()
    return client.data_to_send()


KINDS: dict[str, tuple[SessionMaker, Callable[[], bytes]]] = {
    "exec over SPDY": (lambda: command_session("v4.channel.k8s.io", Transport.SPDY, ALL), spdy_traffic),
    "port-forward over SPDY": (lambda: forward_session("portforward.k8s.io", Transport.SPDY), spdy_traffic),
    "port-forward, tunnelled": (lambda: forward_session(TUNNELLED, Transport.WEBSOCKET), tunnelled_traffic),
    "port-forward over channels": (
        lambda: forward_session("v4.channel.k8s.io", Transport.WEBSOCKET, [80, 443]),
        lambda: websocket_traffic(is_base64=False),
    ),
    **{
        f"exec over WebSocket {name or 'nameless'}": (
            partial(command_session, name, Transport.WEBSOCKET, ALL),
            partial(websocket_traffic, is_base64="base64" in name),
        )
        for name in PROTOCOLS[Transport.WEBSOCKET]
    },
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Valid traffic with a few faults: bytes changed, cut out, or doubled."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(out))
        match rng.randrange(4):
            case 0:
                out[place] = rng.randrange(256)
            case 1:
                out[place] ^= 1 << rng.randrange(8)
            case 2:
                del out[place : place + rng.randint(1, 30)]
            case _:
                out[place:place] = out[place : place + rng.randint(1, 30)]
        if not out:
            return b"\0"
    return bytes(out)


def check(make: SessionMaker, data: bytes, parts: list[bytes]) -> list[Any]:
    session = make()
    session.start()
    happened: list[Any] = []
    answered = 0
    for part in parts:
        happened += session.receive_data(part)
        answered += len(session.data_to_send())
    happened += session.receive_eof()
    answered += len(session.data_to_send())
    assert [type(event) for event in happened].count(ClientGone) == 1
    assert type(happened[-1]) is ClientGone
    assert session.done
    assert answered <= 4 * len(data) + 4096
    held = sum(len(getattr(event, "data", b"")) for event in happened)
    assert held <= len(data)
    assert session.receive_data(b"more") == []
    return joined(happened)


def fate(happened: list[Any]) -> Any:
    """How it ended: hung up, or at fault with which code."""
    last = happened[-1]
    return last[2] if isinstance(last, tuple) else last


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_traffic(kind: str) -> None:
    make, traffic = KINDS[kind]
    rng = random.Random(kind)
    for _ in range(300):
        data = mutated(traffic(), rng)
        whole = check(make, data, [data])
        in_parts = check(make, data, cut(data, [rng.randrange(len(data) + 1) for _ in range(rng.randint(1, 8))]))
        if fate(whole) == CloseReason.INVALID_FRAME_PAYLOAD_DATA:
            # Text is judged as it comes: how much of a broken message is seen, and where its fault is said to be,
            # depends on the cuts; and with it whether it is broken text, or text where none is wanted, that is judged
            # first. That it is broken does not.
            assert fate(in_parts) in (CloseReason.INVALID_FRAME_PAYLOAD_DATA, CloseReason.UNSUPPORTED_DATA)
        else:
            assert in_parts == whole


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(data=st.binary(max_size=300), places=st.lists(st.integers(0, 300), max_size=5))
def test_random_bytes(kind: str, data: bytes, places: list[int]) -> None:
    make, _ = KINDS[kind]
    whole, in_parts = fate(check(make, data, [data])), fate(check(make, data, cut(data, places)))
    assert in_parts == whole or whole == CloseReason.INVALID_FRAME_PAYLOAD_DATA


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32), places=st.lists(st.integers(0, 3000), max_size=6))
def test_a_connection_of_either_role_survives_anything(seed: int, places: list[int]) -> None:
    rng = random.Random(seed)
    data = mutated(spdy_traffic(), rng)
    for role in Role:
        whole = events_of(SpdyConnection(role), [data])
        connection = SpdyConnection(role)
        assert events_of(connection, cut(data, places)) == whole
        if connection.failed:
            assert connection.data_to_send()
            assert whole[-1][0] == ConnectionFailed.__name__


@settings(max_examples=200)
@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32), places=st.lists(st.integers(0, 400), max_size=4))
def test_http_requests(data: bytes, seed: int, places: list[int]) -> None:
    rng = random.Random(seed)
    spdy = request_head(
        "POST", {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": ["v4.channel.k8s.io"]}
    )
    for request in (data, mutated(spdy, rng), mutated(websocket_head("v5.channel.k8s.io"), rng)):
        upgrade = HttpUpgrade()
        fault: RemoteProtocolError | None = None
        try:
            for part in filter(None, cut(request, places)):
                upgrade.receive_data(part)
        except RemoteProtocolError as error:
            fault = error
        if fault is not None:
            assert 400 <= fault.code < 600
            assert upgrade.reject(fault.code, str(fault)).startswith(b"HTTP/1.1 %d " % fault.code)
