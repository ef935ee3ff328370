"""Channels over WebSocket: the first byte of each message says whose it is. Plain, or base64 in text messages.

Shared by exec, attach and the old WebSocket port-forward. A message may be of any length: its pieces are passed on as
they come. Text messages of the plain kind are taken as their UTF-8 bytes, since the Python client sends them so.
Rules: Kubernetes, k8s.io/apimachinery/pkg/util/httpstream/wsstream.
"""

import base64
from binascii import Error as Base64Error
from collections.abc import Iterator

from wsproto.frame_protocol import CloseReason

from crid.wire.protocol import RemoteProtocolError
from crid.wire.websocket import MessagePiece, WebSocket

MAX_MESSAGE_PAYLOAD = 48 * 1024
"""Longer output is sent as several messages, so that channels and answers take turns. A multiple of 3, for base64."""


class ChannelReader:
    """Finds the channel of each piece of a message."""

    def __init__(self, *, is_base64: bool) -> None:
        self._base64 = is_base64
        self._channel: int | None = None
        self._quartet = b""
        self._padded = False

    def feed(self, piece: MessagePiece) -> tuple[int, bytes, bool] | None:
        """The channel, its bytes, and whether the message ends with them; None if nothing can be told yet.

        Raises RemoteProtocolError for what is not base64, where it should be.
        """
        data = piece.data
        if self._channel is None:
            if not data:
                return None
            self._channel = data[0] - ord("0") if self._base64 else data[0]
            data = data[1:]
        channel = self._channel
        if piece.last:
            self._channel = None
        if self._base64:
            data = self._decode(data, last=piece.last)
        return channel, data, piece.last

    def _decode(self, text: bytes, *, last: bool) -> bytes:
        text = self._quartet + text.translate(None, b"\r\n")
        whole = len(text) if last else len(text) // 4 * 4
        text, self._quartet = text[:whole], text[whole:]
        try:
            if self._padded and text:
                raise Base64Error("data follows the padding")
            data = base64.b64decode(text, validate=True)
        except Base64Error as error:
            raise RemoteProtocolError(f"a message is not base64: {error}", CloseReason.INVALID_FRAME_PAYLOAD_DATA) from error
        self._padded = not last and (self._padded or text.endswith(b"="))
        return data


def send_on_channel(socket: WebSocket, channel: int, data: bytes, *, is_base64: bool) -> None:
    """Queues messages for a channel; an empty one too, if there is no data."""
    for part in _parts(data):
        if is_base64:
            socket.send(b"%d" % channel + base64.b64encode(part), text=True)
        else:
            socket.send(bytes((channel,)) + part)


def _parts(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data) or 1, MAX_MESSAGE_PAYLOAD):
        yield data[start : start + MAX_MESSAGE_PAYLOAD]
