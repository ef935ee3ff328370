import pytest

from crid.wire.protocol import RemoteProtocolError
from crid.wire.spdy import frames
from crid.wire.spdy.frames import (
    Data,
    Frame,
    FrameReader,
    GoAway,
    MoreHeaders,
    Ping,
    RstStream,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
    serialize,
)
from crid.wire.spdy.headers import HeaderCompressor

ALL: list[Frame] = [
    SynStream(1, {"streamtype": "stdin"}),
    SynStream(3, {}, fin=True, unidirectional=True),
    SynReply(2, {"a": "b"}, fin=True),
    RstStream(1, 5),
    Settings({7: 65536, 4: 100}),
    Ping(9),
    GoAway(3, 0),
    MoreHeaders(1, {"x": "y"}),
    WindowUpdate(0, 1000),
    Data(1, b"payload"),
    Data(1, b"", fin=True),
]


def reader() -> FrameReader:
    return FrameReader(max_control_payload=1024, max_header_bytes=1024)


def serialized(*parts: Frame) -> bytes:
    compressor = HeaderCompressor()
    return b"".join(serialize(frame, compressor) for frame in parts)


def test_every_frame_comes_back() -> None:
    assert list(reader().feed(serialized(*ALL))) == ALL


def test_every_frame_comes_back_byte_by_byte() -> None:
    under_test, got = reader(), []
    for byte in serialized(*ALL):
        got += list(under_test.feed(bytes((byte,))))
    whole = [frame for frame in got if not isinstance(frame, Data)]
    assert whole == [frame for frame in ALL if not isinstance(frame, Data)]
    assert b"".join(frame.data for frame in got if isinstance(frame, Data)) == b"payload"
    assert under_test.between_frames


def test_known_bytes() -> None:
    # Draft 3.1, 2.2: a control frame has its first bit set, then version, type, flags, length; DATA has the stream.
    assert serialized(Ping(1)).hex() == "80030006" + "00000004" + "00000001"
    assert serialized(RstStream(3, 5)).hex() == "80030003" + "00000008" + "00000003" + "00000005"
    assert serialized(Data(5, b"hi", fin=True)).hex() == "00000005" + "01000002" + "6869"


def test_data_is_passed_on_in_pieces_and_only_the_last_has_the_fin() -> None:
    under_test = reader()
    assert list(under_test.feed(frames.data_header(1, 6, fin=True) + b"ab")) == [Data(1, b"ab")]
    assert not under_test.between_frames
    assert list(under_test.feed(b"cdefgh")) == [Data(1, b"cdef", fin=True)]


def test_an_unknown_control_frame_is_skipped() -> None:
    assert list(reader().feed(bytes.fromhex("8003000a00000002abcd") + serialized(Ping(1)))) == [Ping(1)]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("80020006 00000004 00000001", "version 2"),
        ("80030006 00000401", "1025 bytes is more than 1024"),
        ("80030006 00000003 000000", "PING has 3 bytes"),
        ("80030003 00000004 00000001", "RST_STREAM has 4 bytes"),
        ("80030003 00000008 00000000 00000001", "stream 0"),
        ("80030003 00000008 00000001 00000000", "code 0"),
        ("80030004 00000002 0000", "fewer than 4"),
        ("80030004 00000004 00000001", "announces 1 values"),
        ("80030004 0000000c ffffffff 00000000 00000000", "announces 4294967295"),
        ("80030001 00000002 0000", "SYN_STREAM has 2 bytes"),
        ("80030002 00000008 00000001 ffffffff", "not compressed"),
        ("80030009 00000004 00000001", "WINDOW_UPDATE has 4 bytes"),
        ("80030007 0000000c 000000010000000000000000", "GOAWAY has 12 bytes"),
        ("00000000 00000001 61", "DATA is for stream 0"),
    ],
)
def test_broken_frames(data: str, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault):
        list(reader().feed(serialized(Ping(1)) + bytes.fromhex(data)))


def test_frames_before_the_broken_one_are_seen() -> None:
    fed = reader().feed(serialized(Ping(1), Ping(3)) + bytes.fromhex("8002000600000000"))
    assert [next(fed), next(fed)] == [Ping(1), Ping(3)]
    with pytest.raises(RemoteProtocolError):
        next(fed)
