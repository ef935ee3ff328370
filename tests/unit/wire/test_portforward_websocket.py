from crid.wire.portforward_websocket import WebSocketForwardSession
from crid.wire.session import WINDOW, ForwardData, ForwardOpened
from tests.wire.clients import WebSocketClient


def test_two_ports() -> None:
    session = WebSocketForwardSession([80, 443], base64=False)
    client = WebSocketClient(session)
    assert client.seen == [ForwardOpened(0, 80), ForwardOpened(1, 443)]
    assert client.messages == [b"\0\x50\0", b"\1\x50\0", b"\2\xbb\1", b"\3\xbb\1"]
    assert client.send(b"\2hello") == [ForwardData(1, b"hello")]
    assert client.send(b"\3errors are ours") == []
    assert client.send(b"\7nobody") == []
    session.acknowledge(1, 5)
    assert session.send(0, b"from 80") == 7
    session.fail(1, "refused")
    assert session.send(1, b"dropped") == 7
    client.exchange()
    assert client.messages[4:] == [b"\0from 80", b"\3refused"]
    assert client.send(b"\2late") == []
    session.finish_all()
    client.exchange()
    assert client.closed is not None
    assert client.closed.code == 1000


def test_input_is_bounded_and_given_back_when_a_forward_ends() -> None:
    session = WebSocketForwardSession([80], base64=True)
    client = WebSocketClient(session)
    assert client.messages[0] == b"0UAA="
    session = WebSocketForwardSession([80], base64=False)
    WebSocketClient(session).send(b"\0" + bytes(WINDOW))
    assert session.read_paused
    session.finish(0)
    assert [session.read_paused] == [False]
    session.acknowledge(0, WINDOW)
