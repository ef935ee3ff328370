import json

import pytest

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
    Writable,
)
from crid.wire.spdy import ResetCode
from tests.wire.clients import SpdyClient

ALL = Streams(stdin=True, stdout=True, stderr=True)
GONE = ClientGone("the client closed the connection")


def session(protocol: str = "v4.channel.k8s.io", streams: Streams = ALL) -> CommandSession:
    return command_session(protocol, Transport.SPDY, streams)


def connected(
    under_test: CommandSession, *kinds: str, heeds_windows: bool = True
) -> tuple[SpdyClient[CommandSession], dict[str, int]]:
    client = SpdyClient(under_test, heeds_windows)
    return client, {kind: client.open(streamType=kind) for kind in kinds}


@pytest.mark.parametrize("heeds_windows", [True, False])
def test_a_command_from_start_to_end(heeds_windows: bool) -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr", heeds_windows=heeds_windows)
    assert client.seen == [Ready()]
    assert client.send(ids["stdin"], b"in") == [StdinData(b"in")]
    under_test.acknowledge(2)
    assert client.send(ids["stdin"], b"", fin=True) == [StdinClosed()]
    assert under_test.send(Channel.STDOUT, b"out") == 3
    assert under_test.send(Channel.STDERR, b"err") == 3
    under_test.finish(Status(3))
    client.exchange()
    assert client.received[ids["stdout"]] == b"out"
    assert client.received[ids["stderr"]] == b"err"
    assert json.loads(client.received[ids["error"]])["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert client.finished == set(ids.values())
    assert under_test.done
    assert under_test.receive_eof() == [GONE]
    assert under_test.receive_eof() == []


def test_success_is_a_status_since_v4_and_silence_before() -> None:
    for protocol, text in (
        ("v4.channel.k8s.io", b'{"metadata":{},"status":"Success"}'),
        ("v3.channel.k8s.io", None),
        ("", None),
    ):
        under_test = session(protocol, Streams(stdout=True))
        client, ids = connected(under_test, "error", "stdout")
        under_test.finish(Status())
        client.exchange()
        assert client.received.get(ids["error"]) == text


def test_failure_is_plain_text_before_v4() -> None:
    under_test = session("v2.channel.k8s.io", Streams(stdout=True))
    client, ids = connected(under_test, "error", "stdout")
    under_test.finish(Status(7))
    client.exchange()
    assert client.received[ids["error"]] == b"command terminated with non-zero exit code 7"


def test_a_terminal_needs_a_resize_stream_since_v3() -> None:
    terminal = Streams(stdin=True, stdout=True, stderr=True, tty=True)
    client, _ = connected(session("v2.channel.k8s.io", terminal), "error", "stdin", "stdout")
    assert client.seen == [Ready()]
    client, _ = connected(session("v3.channel.k8s.io", terminal), "error", "stdin", "stdout")
    assert client.seen == []
    resize = client.open(streamType="resize")
    assert client.seen == [Ready()]
    assert client.send(resize, b'{"Width":80,"Height":24}\n') == [Resize(80, 24)]


def test_streams_that_make_no_sense_are_reset() -> None:
    client, ids = connected(session(), "error", "unheard-of", "error")
    assert set(client.resets.values()) == {ResetCode.PROTOCOL_ERROR}
    assert len(client.resets) == 2
    unnamed = client.spdy.open_stream({})
    client.exchange()
    assert unnamed in client.resets
    assert ids["error"] != 1


def test_input_is_bounded_by_what_is_acknowledged() -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr", heeds_windows=False)
    client.send(ids["stdin"], bytes(WINDOW))
    assert under_test.read_paused
    under_test.acknowledge(WINDOW)
    assert not under_test.read_paused


def test_a_client_with_windows_sends_no_more_than_they_hold_and_goes_on_when_they_open() -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr")
    assert client.spdy.send_data(ids["stdin"], bytes(2 * WINDOW)) == WINDOW
    client.exchange()
    under_test.acknowledge(WINDOW)
    client.exchange()
    assert client.spdy.sendable(ids["stdin"]) == WINDOW


def test_output_waits_for_the_clients_window() -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr")
    total = bytes(3 * WINDOW)
    taken = under_test.send(Channel.STDOUT, total)
    assert taken == under_test.writable(Channel.STDERR) or taken == WINDOW
    assert under_test.writable(Channel.STDOUT) == 0
    assert under_test.send(Channel.STDERR, b"still") == 5
    assert client.exchange() == [Writable(Channel.STDOUT)]
    assert under_test.writable(Channel.STDOUT) > 0
    assert len(client.received[ids["stdout"]]) == taken


def test_the_status_waits_for_the_connections_window() -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr")
    for channel in (Channel.STDOUT, Channel.STDERR):
        while under_test.writable(channel):
            under_test.send(channel, bytes(WINDOW))
            client.exchange(acknowledge=False)
    # 64 KiB is left on the stream of the status, but the sixteen MiB of the connection are not all used by two streams.
    under_test.finish(Status(1))
    client.exchange()
    assert under_test.done
    assert b"NonZeroExitCode" in client.received[ids["error"]]


def test_a_client_that_resets_what_it_does_not_want() -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr")
    under_test.send(Channel.STDOUT, bytes(2 * WINDOW))
    for kind in ("stdout", "stdin"):
        client.spdy.reset(ids[kind])
    assert client.exchange() == [Writable(Channel.STDOUT), StdinClosed()]
    assert under_test.send(Channel.STDOUT, b"dropped") == 7
    under_test.acknowledge(5)
    under_test.finish(Status())
    client.exchange()
    assert under_test.done


def test_a_vanished_client_is_told_once_and_everything_is_dropped() -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr")
    client.send(ids["stdin"], b"half")
    assert under_test.receive_eof() == [GONE]
    assert under_test.send(Channel.STDOUT, b"x" * 10) == 10
    under_test.acknowledge(4)
    under_test.finish(Status())
    under_test.abort("late")
    under_test.ping()
    assert under_test.data_to_send() == b""


def test_a_broken_client_gets_a_goaway() -> None:
    under_test = session()
    under_test.start()
    under_test.data_to_send()
    (gone,) = under_test.receive_data(b"\x80\x02\x00\x06\x00\x00\x00\x00")
    assert isinstance(gone, ClientGone)
    assert gone.error is not None
    assert under_test.data_to_send().hex() == "80030007" + "00000008" + "00000000" + "00000001"
    assert under_test.done


def test_abort_tells_the_reason() -> None:
    under_test = session()
    client, ids = connected(under_test, "error", "stdin", "stdout", "stderr")
    under_test.abort("idle for too long")
    client.exchange()
    assert b"idle for too long" in client.received[ids["error"]]
    assert under_test.done
