import pytest

from crid.wire.protocol import LocalProtocolError
from crid.wire.spdy import GoAwayCode, Limits, ResetCode, Role, SpdyConnection, frames
from crid.wire.spdy.events import ConnectionFailed, DataReceived, StreamOpened, StreamReset
from crid.wire.spdy.frames import Data, Setting, WindowUpdate
from crid.wire.spdy.windows import UNBOUNDED
from tests.wire.spdy_script import SMALL, Script


def heeding(*ids: int, limits: Limits = SMALL) -> Script:
    script = Script(limits=limits).opened(*ids)
    script >> frames.Settings({Setting.INITIAL_WINDOW_SIZE: 100})
    return script


def paused(script: Script) -> bool:
    return script.connection.read_paused


def test_windows_are_announced_first() -> None:
    connection = SpdyConnection(Role.SERVER, limits=Limits(connection_window=100_000))
    script = Script()
    script.connection = connection
    connection.start()
    settings = frames.Settings({Setting.MAX_CONCURRENT_STREAMS: 512, Setting.INITIAL_WINDOW_SIZE: 1024 * 1024})
    assert script.sent() == [settings, WindowUpdate(0, 100_000 - 65536)]


def test_a_peer_that_shows_no_windows_is_sent_all_and_paused_when_it_sends_too_much() -> None:
    script = Script().opened(1, 3)
    assert script.connection.sendable(1) == UNBOUNDED
    assert script.connection.send_data(1, bytes(10_000_000)) == 10_000_000
    script >> Data(1, bytes(999))
    assert not paused(script)
    script >> Data(1, bytes(500))
    assert paused(script)
    script.connection.acknowledge(1, 499)
    assert paused(script)
    script.connection.acknowledge(1, 1)
    assert not paused(script)


def test_it_is_paused_for_the_sum_of_its_streams_too() -> None:
    script = Script(limits=Limits(stream_window=1000, connection_window=1500)).opened(1, 3)
    script >> Data(1, bytes(900))
    script >> Data(3, bytes(900))
    assert paused(script)
    script.connection.reset(1)
    assert not paused(script)


def test_what_was_sent_before_the_first_update_counts() -> None:
    script = Script().opened(1)
    script.connection.send_data(1, bytes(70_000))
    script >> WindowUpdate(1, 10_000)
    assert script.connection.sendable(1) == 0, "the connection's window is still overdrawn"
    script >> WindowUpdate(0, 10_000)
    assert script.connection.sendable(1) == 65536 + 10_000 - 70_000


def test_a_peer_that_knows_windows_is_held_to_ours_and_never_paused() -> None:
    script = heeding(1, 3)
    script >> Data(1, bytes(1000))
    assert not paused(script)
    assert script >> Data(1, b"x") == [StreamReset(1, ResetCode.FLOW_CONTROL_ERROR, by_peer=False)]
    assert script.sent() == [frames.RstStream(1, ResetCode.FLOW_CONTROL_ERROR)]


def test_the_connections_window_holds_too() -> None:
    script = heeding(1, 3, limits=Limits(stream_window=1000, connection_window=1500))
    script >> Data(1, bytes(1000))
    (failed,) = script >> Data(3, bytes(501))
    assert isinstance(failed, ConnectionFailed)
    assert script.sent() == [frames.GoAway(3, GoAwayCode.PROTOCOL_ERROR)]


def test_our_windows_are_opened_by_halves_as_data_is_acknowledged() -> None:
    script = Script().opened(1)
    script >> Data(1, bytes(1000))
    script.connection.acknowledge(1, 499)
    assert script.sent() == []
    script.connection.acknowledge(1, 1)
    assert script.sent() == [WindowUpdate(1, 500)]
    script.connection.acknowledge(1, 500)
    assert script.sent() == [WindowUpdate(1, 500)]
    script >> Data(1, bytes(500))
    script.connection.acknowledge(1, 500)
    assert script.sent() == [WindowUpdate(1, 500), WindowUpdate(0, 1500)]


def test_dropped_data_is_given_back_to_the_connection() -> None:
    script = heeding(1)
    script.connection.reset(1)
    script.sent()
    for _ in range(10):
        assert script >> Data(1, bytes(1000)) == []
    assert [frame for frame in script.sent() if isinstance(frame, WindowUpdate)] == [WindowUpdate(0, 2000)] * 5


def test_more_than_is_held_cannot_be_acknowledged() -> None:
    script = Script().opened(1)
    script >> Data(1, b"abc")
    with pytest.raises(LocalProtocolError, match="holds 3 bytes, 4"):
        script.connection.acknowledge(1, 4)
    script.connection.acknowledge(1, 3)


@pytest.mark.parametrize("delta", [0, 0x7FFFFFFF])
def test_an_illegal_update_ends_the_stream_or_the_connection(delta: int) -> None:
    script = Script().opened(1)
    assert script >> WindowUpdate(1, delta) == [StreamReset(1, ResetCode.FLOW_CONTROL_ERROR, by_peer=False)]
    (failed,) = script >> WindowUpdate(0, delta)
    assert isinstance(failed, ConnectionFailed)


def test_two_that_heed_each_other_lose_nothing() -> None:
    """Many windows' worth of data passes, in both directions at once, with neither ever overrun."""
    limits = Limits(stream_window=70_000, connection_window=100_000)
    client, server = SpdyConnection(Role.CLIENT, limits=limits), SpdyConnection(Role.SERVER, limits=limits)
    client.start()
    server.start()
    stream = client.open_stream({})
    left, got = {client: 6_400_000, server: 6_400_000}, {client: 0, server: 0}
    for _ in range(2000):
        for one, other in ((client, server), (server, client)):
            for event in other.receive_data(one.data_to_send()):
                assert not isinstance(event, StreamReset | ConnectionFailed)
                if isinstance(event, StreamOpened):
                    other.reply(stream)
                elif isinstance(event, DataReceived):
                    got[other] += len(event.data)
                    other.acknowledge(stream, len(event.data))
            if one.sendable(stream):
                left[one] -= one.send_data(stream, bytes(left[one]))
    assert list(left.values()) == [0, 0]
    assert list(got.values()) == [6_400_000, 6_400_000]
