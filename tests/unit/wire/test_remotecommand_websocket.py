import base64
import json

import pytest

from crid.wire.protocol import LocalProtocolError
from crid.wire.remotecommand import Transport, command_session
from crid.wire.session import (
    WINDOW,
    Channel,
    ClientGone,
    CommandSession,
    Ready,
    Resize,
    Status,
    StdinClosed,
    StdinData,
    Streams,
)
from tests.wire.clients import WebSocketClient

ALL = Streams(stdin=True, stdout=True, stderr=True)


def connected(protocol: str, streams: Streams = ALL) -> WebSocketClient[CommandSession]:
    return WebSocketClient(command_session(protocol, Transport.WEBSOCKET, streams))


def test_a_command_from_start_to_end() -> None:
    client = connected("v5.channel.k8s.io")
    assert client.seen == [Ready()]
    assert client.messages == [b"\1"], "an empty message tells that all is set up"
    assert client.send(b"\0in") == [StdinData(b"in")]
    assert client.send(b'\4{"Width":80,"Height":24}') == [Resize(80, 24)]
    assert client.send(b"\xff\0") == [StdinClosed()]
    assert client.send(b"\0late") == []
    under_test = client.session
    assert under_test.send(Channel.STDOUT, b"out") == 3
    assert under_test.send(Channel.STDERR, b"err") == 3
    under_test.finish(Status(3))
    client.exchange()
    assert client.messages[1:3] == [b"\1out", b"\2err"]
    assert client.messages[3][0] == Channel.ERROR
    assert json.loads(client.messages[3][1:])["reason"] == "NonZeroExitCode"
    assert client.closed is not None
    assert client.closed.code == 1000
    assert under_test.done


@pytest.mark.parametrize("protocol", ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"])
def test_base64(protocol: str) -> None:
    client = connected(protocol)
    assert client.messages == [b"1"]
    assert client.send(b"0" + base64.b64encode(b"input"), text=True) == [StdinData(b"input")]
    client.session.send(Channel.STDERR, b"err")
    client.exchange()
    assert client.messages[1] == b"2" + base64.b64encode(b"err")
    (gone,) = client.send(b"0not*base64", text=True)
    assert isinstance(gone, ClientGone)
    assert client.closed is not None
    assert client.closed.code == 1007


def test_text_messages_are_taken_as_their_bytes() -> None:
    assert connected("v4.channel.k8s.io").send(b"\0\xc3\xa9", text=True) == [StdinData(b"\xc3\xa9")]


def test_before_v5_there_is_no_close_signal_and_before_v4_plain_text() -> None:
    client = connected("v4.channel.k8s.io")
    assert client.send(b"\xff\0") == []
    client = connected("channel.k8s.io")
    client.session.finish(Status(2))
    client.exchange()
    assert client.messages[1:] == [b"\3command terminated with non-zero exit code 2"]


@pytest.mark.parametrize("signal", [b"\xff", b"\xff\7", b"\xff\0\0"])
def test_a_close_signal_for_nothing_ends_the_connection(signal: bytes) -> None:
    client = connected("v5.channel.k8s.io")
    (gone,) = client.send(signal)
    assert isinstance(gone, ClientGone)
    assert client.closed is not None
    assert client.closed.code == 1003


def test_what_was_not_asked_for_is_dropped() -> None:
    client = connected("v5.channel.k8s.io", Streams(stdout=True, stderr=True, tty=True))
    assert client.send(b"\0in") == []
    assert client.send(b"\x09what") == []
    assert client.send(b"") == []
    assert client.session.send(Channel.STDERR, b"err") == 3
    client.exchange()
    assert client.messages == [b"\1"]
    assert connected("v5.channel.k8s.io", Streams(stdin=True)).messages == [b"\3"]


def test_input_is_bounded_by_what_is_acknowledged() -> None:
    client = connected("v5.channel.k8s.io")
    client.send(b"\0" + bytes(WINDOW))
    under_test = client.session
    assert under_test.read_paused
    with pytest.raises(LocalProtocolError):
        under_test.acknowledge(WINDOW + 1)
    under_test.acknowledge(WINDOW)
    assert [under_test.read_paused] == [False]


def test_long_output_comes_as_several_messages() -> None:
    client = connected("v5.channel.k8s.io")
    data = bytes(range(256)) * 1000
    client.session.send(Channel.STDOUT, data)
    client.exchange()
    assert len(client.messages) > 3
    assert b"".join(message[1:] for message in client.messages) == data


def test_an_unmasked_frame_is_a_protocol_error() -> None:
    client = connected("v5.channel.k8s.io")
    (gone,) = client.session.receive_data(b"\x82\x01\x00")
    assert isinstance(gone, ClientGone)
    client.exchange()
    assert client.closed is not None
    assert client.closed.code == 1002
