import base64

import pytest

from crid.wire.channels import MAX_MESSAGE_PAYLOAD, ChannelReader, send_on_channel
from crid.wire.protocol import RemoteProtocolError
from crid.wire.websocket import MessagePiece, WebSocket


def read(message: bytes, size: int, *, is_base64: bool) -> tuple[set[int], bytes]:
    reader = ChannelReader(is_base64=is_base64)
    channels, data = set(), b""
    for at in range(0, len(message), size):
        part = message[at : at + size]
        if (got := reader.feed(MessagePiece(part, at == 0, at + size >= len(message), is_base64))) is not None:
            channels.add(got[0])
            data += got[1]
    return channels, data


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_a_message_however_cut(size: int) -> None:
    payload = bytes(range(256))
    assert read(b"\3" + payload, size, is_base64=False) == ({3}, payload)
    text = base64.encodebytes(payload)
    assert b"\n" in text
    assert read(b"2" + text, size, is_base64=True) == ({2}, payload)


@pytest.mark.parametrize("size", [1, 4, 5, 1000])
@pytest.mark.parametrize("text", [b"0QQ==QUJD", b"0QQ", b"0QUJDQ", b"0Q*==", b"0===="])
def test_what_is_not_base64(text: bytes, size: int) -> None:
    with pytest.raises(RemoteProtocolError, match="not base64"):
        read(text, size, is_base64=True)


def test_base64_in_parts_needs_no_padding_within() -> None:
    client, server = WebSocket(client=True), WebSocket()
    data = bytes(2 * MAX_MESSAGE_PAYLOAD + 1)
    send_on_channel(client, 1, data, is_base64=True)
    reader, got = ChannelReader(is_base64=True), b""
    for piece in server.receive_data(client.data_to_send()):
        assert isinstance(piece, MessagePiece)
        part = reader.feed(piece)
        got += part[1] if part else b""
    assert got == data
