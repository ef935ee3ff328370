from crid.wire.websocket import Closed, MessagePiece, WebSocket


def pieces(data: bytes, size: int) -> list[MessagePiece]:
    server = WebSocket()
    out = [event for at in range(0, len(data), size) for event in server.receive_data(data[at : at + size])]
    assert all(isinstance(event, MessagePiece) for event in out)
    return [event for event in out if isinstance(event, MessagePiece)]


def test_ends_of_messages_are_told_however_cut() -> None:
    client = WebSocket(client=True)
    for message in (b"first", b"", b"x" * 70_000):
        client.send(message)
    data = client.data_to_send()
    for size in (1, 3, 1000, len(data)):
        got = pieces(data, size)
        starts = [at for at, piece in enumerate(got) if piece.first]
        ends = [at for at, piece in enumerate(got) if piece.last]
        assert len(starts) == len(ends) == 3
        messages = [b"".join(piece.data for piece in got[a : b + 1]) for a, b in zip(starts, ends, strict=True)]
        assert messages == [b"first", b"", b"x" * 70_000]


def test_pings_are_answered_between_the_pieces_of_a_message() -> None:
    server, client = WebSocket(), WebSocket(client=True)
    client.ping()
    assert server.receive_data(client.data_to_send()) == []
    assert server.data_to_send() == b"\x8a\x00"


def test_close_is_answered_and_the_last() -> None:
    server, client = WebSocket(), WebSocket(client=True)
    client.close(1000, "enough")
    client.send(b"not sent")
    assert server.receive_data(client.data_to_send()) == [Closed(1000, "enough")]
    assert client.receive_data(server.data_to_send()) == [Closed(1000, "")]
    assert server.receive_data(b"garbage") == []
    server.send(b"not sent")
    server.ping()
    assert server.data_to_send() == b""


def test_faults_say_what_they_are() -> None:
    unmasked, unknown, reserved = b"\x82\x01a", b"\x83\x80\0\0\0\0", b"\xc2\x80\0\0\0\0"
    not_utf8 = b"\x81\x81\0\0\0\0\xff"
    for data, code in ((unmasked, 1002), (unknown, 1002), (reserved, 1002), (not_utf8, 1007)):
        server = WebSocket()
        (closed,) = server.receive_data(data)
        assert isinstance(closed, Closed)
        assert closed.error is not None
        assert closed.error.code == code
        assert server.data_to_send() == b"\x88\x02" + code.to_bytes(2, "big")
