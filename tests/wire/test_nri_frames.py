"""ttrpc frames and the NRI multiplexer: every cut of the bytes reads the same, and what is too long is refused."""

import pytest

from crid.wire import nri_mux, ttrpc
from crid.wire.protocol import RemoteProtocolError

FRAMES = [
    ttrpc.Frame(1, ttrpc.REQUEST, b"abc"),
    ttrpc.Frame(3, ttrpc.RESPONSE, b"", 4),
    ttrpc.Frame(5, ttrpc.REQUEST, b"x" * 20),
]


def test_a_frame_is_what_the_protocol_says() -> None:
    assert ttrpc.encode(FRAMES[0]) == bytes.fromhex("00000003 00000001 01 00") + b"abc"
    assert nri_mux.encode(2, b"abc") == bytes.fromhex("00000002 00000003") + b"abc"


def test_every_cut_reads_the_same() -> None:
    whole = b"".join(nri_mux.encode(nri_mux.PLUGIN, ttrpc.encode(frame)) for frame in FRAMES)
    for cut in range(len(whole) + 1):
        mux, frames = nri_mux.MuxReader(), ttrpc.FrameReader()
        found = []
        for part in (whole[:cut], whole[cut:]):
            for connection, payload in mux.feed(part):
                assert connection == nri_mux.PLUGIN
                found += frames.feed(payload)
        assert found == FRAMES


def test_a_frame_may_lie_across_payloads_of_its_connection() -> None:
    data = ttrpc.encode(FRAMES[2])
    reader = ttrpc.FrameReader()
    assert [frame for byte in data for frame in reader.feed(bytes([byte]))] == [FRAMES[2]]


@pytest.mark.parametrize("size", [1, 4096, 4097, ttrpc.MAX_DATA])
def test_a_long_message_is_cut_once_after_what_go_reads_at_first(size: int) -> None:
    payloads = [payload for _, payload in nri_mux.MuxReader().feed(nri_mux.encode(1, b"a" * size))]
    assert [len(payload) for payload in payloads] == ([size] if size <= 4096 else [4096, size - 4096])


def test_what_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteProtocolError):
        ttrpc.FrameReader().feed(ttrpc.HEADER.pack(ttrpc.MAX_DATA + 1, 1, 1, 0))
    with pytest.raises(RemoteProtocolError):
        nri_mux.MuxReader().feed(nri_mux.HEADER.pack(1, nri_mux.MAX_PAYLOAD + 1))
    with pytest.raises(ValueError, match="allowed"):
        ttrpc.encode(ttrpc.Frame(1, 1, b"a" * (ttrpc.MAX_DATA + 1)))
