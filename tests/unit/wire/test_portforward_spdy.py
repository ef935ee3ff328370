import pytest

from crid.wire.portforward_spdy import MAX_FORWARDS, SpdyForwardSession
from crid.wire.protocol import LocalProtocolError
from crid.wire.session import (
    WINDOW,
    ClientGone,
    ForwardClosed,
    ForwardData,
    ForwardOpened,
    ForwardPending,
    ForwardReset,
    Writable,
)
from crid.wire.spdy import ResetCode
from tests.wire.clients import SpdyClient


@pytest.fixture
def client() -> SpdyClient[SpdyForwardSession]:
    return SpdyClient(SpdyForwardSession())


def pair(client: SpdyClient[SpdyForwardSession], request: str = "0", port: int = 80) -> tuple[int, int]:
    """The error and the data stream of a new forward."""
    error = client.open(streamType="error", port=str(port), requestID=request)
    return error, client.open(streamType="data", port=str(port), requestID=request)


def test_a_connection_from_start_to_end(client: SpdyClient[SpdyForwardSession]) -> None:
    session = client.session
    error, data = pair(client)
    assert client.seen == [ForwardPending("0"), ForwardOpened(data, 80)]
    assert client.send(data, b"request") == [ForwardData(data, b"request")]
    session.acknowledge(data, 7)
    assert session.send(data, b"response") == 8
    assert client.send(data, b"", fin=True) == [ForwardClosed(data)]
    assert session.send(data, b" goes on") == 8
    session.finish(data)
    assert client.send(error, b"", fin=True) == []
    assert client.received[data] == b"response goes on"
    assert client.finished == {error, data}
    assert "forwards=0" in repr(session)
    assert "streams=[]" in repr(session)


def test_pairs_in_any_order_and_interleaved(client: SpdyClient[SpdyForwardSession]) -> None:
    first = client.open(streamType="data", port="80", requestID="a")
    client.send(first, b"early", fin=True)
    client.open(streamType="error", port="81", requestID="b")
    client.open(streamType="error", port="80", requestID="a")
    second = client.open(streamType="data", port="81", requestID="b")
    assert client.seen == [
        ForwardPending("a"),
        ForwardPending("b"),
        ForwardOpened(first, 80),
        ForwardData(first, b"early"),
        ForwardClosed(first),
        ForwardOpened(second, 81),
    ]


def test_what_came_early_is_kept_as_bytes_however_it_was_cut(client: SpdyClient[SpdyForwardSession]) -> None:
    """An object a frame would be fifty times as much, with frames of a byte each, as the window lets in."""
    data = client.open(streamType="data", port="80", requestID="0")
    for letter in b"early":
        assert client.send(data, bytes((letter,))) == []
    client.open(streamType="error", port="80", requestID="0")
    assert client.seen[1:] == [ForwardOpened(data, 80), ForwardData(data, b"early")]
    client.session.acknowledge(data, 5)


def test_old_clients_send_no_id(client: SpdyClient[SpdyForwardSession]) -> None:
    client.open(streamType="error", port="80")
    data = client.open(streamType="data", port="80")
    assert client.seen[-1] == ForwardOpened(data, 80)


def test_an_id_may_be_used_again(client: SpdyClient[SpdyForwardSession]) -> None:
    opened = [pair(client)[1], pair(client)[1]]
    assert [event.forward for event in client.seen if isinstance(event, ForwardOpened)] == opened


@pytest.mark.parametrize(
    "headers",
    [
        {"streamType": "data", "requestID": "0"},
        {"streamType": "data", "port": "0"},
        {"streamType": "data", "port": "65536"},
        {"streamType": "data", "port": "-1"},
        {"streamType": "data", "port": "\xb2"},
        {"streamType": "what", "port": "80"},
        {"port": "80"},
        {"streamType": "data", "port": "80", "requestID": "x" * 300},
    ],
)
def test_streams_that_make_no_sense_are_reset(client: SpdyClient[SpdyForwardSession], headers: dict[str, str]) -> None:
    stream = client.open(**headers)
    assert client.resets == {stream: ResetCode.PROTOCOL_ERROR}
    assert client.seen == []
    pair(client)
    assert isinstance(client.seen[-1], ForwardOpened)


def test_a_second_stream_of_a_kind_or_another_port_is_reset(client: SpdyClient[SpdyForwardSession]) -> None:
    client.open(streamType="error", port="80", requestID="0")
    twice = client.open(streamType="error", port="80", requestID="0")
    other = client.open(streamType="data", port="81", requestID="0")
    assert set(client.resets) == {twice, other}


def test_half_a_pair_expires(client: SpdyClient[SpdyForwardSession]) -> None:
    lone = client.open(streamType="data", port="80", requestID="0")
    client.send(lone, b"held")
    client.session.expire("0")
    client.exchange()
    assert client.resets == {lone: ResetCode.CANCEL}
    assert "pending=0" in repr(client.session)
    assert "held=0" in repr(client.session)
    error, data = pair(client, "1")
    client.session.expire("1")
    client.exchange()
    assert not {error, data} & set(client.resets)


def test_a_forward_that_fails_says_why(client: SpdyClient[SpdyForwardSession]) -> None:
    error, data = pair(client)
    client.session.fail(data, "connection refused")
    client.session.fail(data, "twice")
    client.exchange()
    assert client.received[error] == b"connection refused"
    assert error in client.finished
    assert client.resets == {data: ResetCode.INTERNAL_ERROR}
    assert client.session.send(data, b"dropped") == 7


def test_a_client_that_gives_one_up(client: SpdyClient[SpdyForwardSession]) -> None:
    error, data = pair(client)
    _, other = pair(client, "1")
    client.send(data, b"held")
    client.spdy.reset(data)
    assert client.exchange() == [ForwardReset(data)]
    assert error in client.finished
    assert client.send(other, b"lives") == [ForwardData(other, b"lives")]


def test_one_slow_forward_does_not_stop_another(client: SpdyClient[SpdyForwardSession]) -> None:
    _, slow = pair(client)
    _, quick = pair(client, "1")
    assert client.spdy.send_data(slow, bytes(2 * WINDOW)) == WINDOW
    client.exchange()
    assert client.send(quick, b"quick") == [ForwardData(quick, b"quick")]
    assert not client.session.read_paused
    assert client.session.send(quick, bytes(2 * WINDOW)) == WINDOW
    assert client.exchange() == [Writable(quick)]


def test_a_client_is_told_how_many_forwards_there_may_be(client: SpdyClient[SpdyForwardSession]) -> None:
    for number in range(MAX_FORWARDS):
        pair(client, str(number))
    with pytest.raises(LocalProtocolError, match="the peer allows 512 streams"):
        client.open(streamType="error", port="80", requestID="more")


def test_the_end(client: SpdyClient[SpdyForwardSession]) -> None:
    _, data = pair(client)
    client.session.abort("shutting down")
    client.exchange()
    assert client.session.done
    assert client.resets == {data: ResetCode.INTERNAL_ERROR}
    assert client.session.receive_eof() == [ClientGone("the client closed the connection")]
