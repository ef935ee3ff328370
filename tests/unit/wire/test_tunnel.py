from crid.wire.session import ClientGone, ForwardData, ForwardOpened, ForwardPending
from crid.wire.spdy import Role, SpdyConnection
from crid.wire.tunnel import TunnelledForwardSession
from crid.wire.websocket import Closed, MessagePiece, WebSocket


def test_where_messages_end_means_nothing() -> None:
    for size in (1, 5, 64, 10_000):
        session, socket, spdy = TunnelledForwardSession(), WebSocket(client=True), SpdyConnection(Role.CLIENT)
        session.start()
        for kind in ("error", "data"):
            spdy.open_stream({"streamType": kind, "port": "80", "requestID": "0"})
        spdy.send_data(3, b"x")
        data = spdy.data_to_send()
        for at in range(0, len(data), size):
            socket.send(data[at : at + size])
        happened = session.receive_data(socket.data_to_send())
        assert happened == [ForwardPending("0"), ForwardOpened(3, 80), ForwardData(3, b"x")]
        session.send(3, b"answer")
        received = [event for event in socket.receive_data(session.data_to_send()) if isinstance(event, MessagePiece)]
        got = spdy.receive_data(b"".join(piece.data for piece in received))
        assert type(got[-1]).__name__ == "DataReceived"


def test_text_ends_it_and_so_does_broken_spdy() -> None:
    for message, text, code in ((b"text", True, 1003), (b"\x80\x02\0\x06\0\0\0\0", False, 1000)):
        session, socket = TunnelledForwardSession(), WebSocket(client=True)
        session.start()
        socket.send(message, text=text)
        socket.send(b"more")
        (gone,) = session.receive_data(socket.data_to_send())
        assert isinstance(gone, ClientGone)
        assert gone.error is not None
        assert session.done
        closed = socket.receive_data(session.data_to_send())[-1]
        assert isinstance(closed, Closed)
        assert closed.code == code


def test_the_end() -> None:
    session, socket = TunnelledForwardSession(), WebSocket(client=True)
    session.start()
    socket.close()
    assert [type(event) for event in session.receive_data(socket.data_to_send())] == [ClientGone]
    assert session.receive_eof() == []
    session = TunnelledForwardSession()
    session.finish_all()
    assert session.data_to_send().endswith(b"\x88\x02\x03\xe8")
