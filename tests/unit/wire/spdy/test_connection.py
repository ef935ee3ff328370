from collections.abc import Callable
from itertools import product

import pytest

from crid.wire.protocol import LocalProtocolError
from crid.wire.spdy import GoAwayCode, Half, ResetCode, Role, SpdyConnection, frames
from crid.wire.spdy.events import (
    ConnectionFailed,
    DataReceived,
    GoAwayReceived,
    HeadersReceived,
    PongReceived,
    StreamFinished,
    StreamOpened,
    StreamReplied,
    StreamReset,
    StreamWritable,
)
from crid.wire.spdy.frames import Data, Setting, WindowUpdate
from crid.wire.spdy.stream import MOVES, Move
from tests.wire.spdy_script import Script


def test_a_stream_from_its_opening_to_its_end() -> None:
    script = Script()
    assert script >> frames.SynStream(1, {"streamtype": "stdin"}) == [StreamOpened(1, {"streamtype": "stdin"})]
    script.connection.reply(1)
    assert script >> Data(1, b"in") == [DataReceived(1, b"in")]
    assert script >> frames.MoreHeaders(1, {"a": "b"}) == [HeadersReceived(1, {"a": "b"})]
    assert script.connection.send_data(1, b"out") == 3
    assert script >> Data(1, b"last", fin=True) == [DataReceived(1, b"last"), StreamFinished(1)]
    script.connection.finish(1)
    assert script.sent() == [frames.SynReply(1, {}), Data(1, b"out"), Data(1, b"", fin=True)]
    assert script.connection.state(1) == (Half.FINISHED, Half.FINISHED)
    script.connection.acknowledge(1, 6)
    assert script.connection.state(1) is None


def test_the_client_side() -> None:
    script = Script(Role.CLIENT)
    assert script.connection.open_stream({"streamType": "error"}) == 1
    assert script.connection.open_stream({}, fin=True) == 3
    assert script.sent() == [frames.SynStream(1, {"streamtype": "error"}), frames.SynStream(3, {}, fin=True)]
    assert script >> frames.SynReply(1, {}) == [StreamReplied(1, {})]
    assert script >> frames.SynReply(3, {}, fin=True) == [StreamReplied(3, {}), StreamFinished(3)]
    assert script.connection.state(3) is None
    assert script >> frames.SynReply(1, {}) == [StreamReset(1, ResetCode.STREAM_IN_USE, by_peer=False)]
    assert script.sent() == [frames.RstStream(1, ResetCode.STREAM_IN_USE)]


MAKE_MOVE: dict[Move, Callable[[SpdyConnection, int], object]] = {
    Move.REPLY: lambda connection, stream: connection.reply(stream),
    Move.HEADERS: lambda connection, stream: connection.send_headers(stream, {"a": "b"}),
    Move.DATA: lambda connection, stream: connection.send_data(stream, b"x"),
    Move.FIN: lambda connection, stream: connection.finish(stream),
}


@pytest.mark.parametrize(("half", "move"), list(product(Half, Move)))
def test_each_move_follows_the_table_and_an_illegal_one_changes_nothing(half: Half, move: Move) -> None:
    script = Script()
    script >> frames.SynStream(1, {})
    if half is not Half.AWAITING_REPLY:
        script.connection.reply(1)
    if half is Half.FINISHED:
        script.connection.finish(1)
    before, _ = repr(script.connection), script.sent()
    after = MOVES.get((half, move))
    if after is None:
        with pytest.raises(LocalProtocolError, match=f"{move.value} cannot be sent on stream 1"):
            MAKE_MOVE[move](script.connection, 1)
        assert script.connection.state(1) == (half, Half.OPEN)
        assert repr(script.connection) == before
        assert script.sent() == []
    else:
        MAKE_MOVE[move](script.connection, 1)
        assert script.connection.state(1) == (after, Half.OPEN)
        assert len(script.sent()) == 1


def test_what_does_not_exist_cannot_be_used() -> None:
    connection = SpdyConnection(Role.SERVER)
    for use in (lambda: connection.finish(1), lambda: connection.reset(1), lambda: connection.send_data(1, b"x")):
        with pytest.raises(LocalProtocolError):
            use()
    assert connection.data_to_send() == b""


def test_data_out_of_place() -> None:
    script = Script().opened(1)
    assert script >> Data(7, b"x") == []
    assert script.sent() == [frames.RstStream(7, ResetCode.INVALID_STREAM)]
    script >> Data(1, b"", fin=True)
    assert script >> Data(1, b"x") == [StreamReset(1, ResetCode.STREAM_ALREADY_CLOSED, by_peer=False)]
    assert script.sent() == [frames.RstStream(1, ResetCode.STREAM_ALREADY_CLOSED)]
    assert script >> Data(1, b"was on its way") == []
    assert script.sent() == []


def test_a_reset_from_either_side_forgets_the_stream() -> None:
    script = Script().opened(1, 3)
    script >> Data(1, b"held")
    assert script >> frames.RstStream(1, 5) == [StreamReset(1, 5, by_peer=True)]
    script.connection.acknowledge(1, 4)
    script.connection.reset(3, ResetCode.CANCEL)
    assert script.sent() == [frames.RstStream(3, ResetCode.CANCEL)]
    assert "streams=[], held=0" in repr(script.connection)
    assert script >> frames.RstStream(3, 5) == []


@pytest.mark.parametrize("stream_id", [1, 2, 4])
def test_streams_out_of_order_or_of_the_wrong_side_end_the_connection(stream_id: int) -> None:
    script = Script().opened(3)
    (failed,) = script >> frames.SynStream(stream_id, {})
    assert isinstance(failed, ConnectionFailed)
    assert script.sent() == [frames.GoAway(3, GoAwayCode.PROTOCOL_ERROR)]
    assert script >> Data(3, b"x") == []
    with pytest.raises(LocalProtocolError, match="has failed"):
        script.connection.send_data(3, b"x")


def test_one_stream_too_many_is_refused_and_many_end_the_connection() -> None:
    script = Script().opened(1, 3)
    assert script >> frames.SynStream(5, {}) == []
    assert script >> frames.SynStream(7, {}) == []
    assert script.sent() == [frames.RstStream(number, ResetCode.REFUSED_STREAM) for number in (5, 7)]
    (failed,) = script >> frames.SynStream(9, {})
    assert isinstance(failed, ConnectionFailed)
    assert script.sent() == [frames.GoAway(9, GoAwayCode.PROTOCOL_ERROR)]


def test_pings() -> None:
    script = Script()
    assert script >> frames.Ping(7) == []
    assert script.connection.ping() == 2
    assert script.sent() == [frames.Ping(7), frames.Ping(2)]
    assert script >> frames.Ping(2) == [PongReceived(2)]


def test_goaway() -> None:
    script = Script().opened(1)
    assert script >> frames.GoAway(0, 0) == [GoAwayReceived(0, 0)]
    script.connection.go_away()
    script.connection.go_away()
    assert script.sent() == [frames.GoAway(1, 0)]
    assert script >> frames.SynStream(3, {}) == []
    assert script.connection.send_data(1, b"goes on") == 7


def test_the_end_within_a_frame() -> None:
    script = Script()
    script >> b"\x80\x03"
    (failed,) = script.connection.receive_eof()
    assert isinstance(failed, ConnectionFailed)
    assert Script().connection.receive_eof() == []


def test_long_data_is_sent_in_frames_that_take_turns() -> None:
    script = Script().opened(1)
    assert script.connection.send_data(1, bytes(150_000)) == 150_000
    header = bytes.fromhex("00000001")
    sent = script.connection.data_to_send()
    assert [sent[at : at + 4] for at in (0, 65544, 131088)] == [header] * 3
    assert len(sent) == 150_000 + 3 * 8


def test_a_blocked_stream_is_woken_when_both_windows_are_open() -> None:
    script = Script().opened(1, 3)
    script >> frames.Settings({Setting.INITIAL_WINDOW_SIZE: 100})
    assert script.connection.send_data(1, bytes(150)) == 100
    assert script.connection.sendable(1) == 0
    assert script >> WindowUpdate(1, 20) == [StreamWritable(1)]
    assert script.connection.send_data(1, bytes(50)) == 20
    assert script >> frames.Settings({Setting.INITIAL_WINDOW_SIZE: 70}) == []
    assert script >> WindowUpdate(1, 30) == []
    assert script >> WindowUpdate(1, 1) == [StreamWritable(1)]
    assert script.connection.sendable(1) == 1
