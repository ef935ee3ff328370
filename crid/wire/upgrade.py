"""The HTTP/1.1 request that every streaming connection begins with, and its answers. Parsing is h11's.

A connection carries one request. It is either answered by 101, after which the bytes are those of SPDY or WebSocket,
or by an error, after which it is closed. Rules: RFC 9110 (upgrade), RFC 6455 section 4.2 (WebSocket handshake),
k8s.io/apimachinery/pkg/util/httpstream (X-Stream-Protocol-Version).
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

from crid.wire.protocol import RemoteProtocolError
from crid.wire.remotecommand import Transport

MAX_REQUEST_HEAD = 16 * 1024
_STREAM_PROTOCOL = "X-Stream-Protocol-Version"
_ACCEPTED_PROTOCOLS = "X-Accepted-Stream-Protocol-Versions"
_WEBSOCKET_PROTOCOL = "Sec-WebSocket-Protocol"
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """What a client asks for. `transport` is None if it asks for no upgrade, or one that is not spoken."""

    method: str
    target: str
    transport: Transport | None
    offered: tuple[str, ...]
    websocket_key: str = field(default="", repr=False)

    def __repr__(self) -> str:
        # The target ends with the token, which opens the container to whoever reads the log.
        kind = self.transport.value if self.transport else "none"
        return f"UpgradeRequest({self.method}, upgrade={kind}, offered={self.offered})"


class HttpUpgrade:
    """The server's side of one connection, up to its answer."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_HEAD)
        self._request: UpgradeRequest | None = None
        self._answered = False

    def receive_data(self, data: bytes) -> UpgradeRequest | None:
        """Takes received bytes; returns the request once its head is whole. Raises RemoteProtocolError.

        `code` of the error is the HTTP status to answer with. Empty `data` means the client has hung up.
        """
        try:
            self._http.receive_data(data)
            event = None if self._request else self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(f"not an HTTP request: {error}", error.error_status_hint) from error
        if isinstance(event, h11.Request):
            self._request = _parse(event)
            return self._request
        if isinstance(event, h11.ConnectionClosed):
            raise RemoteProtocolError("the client hung up without a request", HTTPStatus.BAD_REQUEST)
        return None

    def accept(self, protocol: str) -> tuple[bytes, bytes]:
        """The 101 answer for the agreed protocol, and the bytes that the client had sent after its request."""
        request = self._request
        if request is None or request.transport is None or self._answered:
            raise RuntimeError("only an unanswered request for an upgrade can be accepted")
        self._answered = True
        headers = [("Connection", "Upgrade"), ("Upgrade", request.transport.value)]
        if request.transport is Transport.WEBSOCKET:
            headers.append(("Sec-WebSocket-Accept", websocket_accept(request.websocket_key)))
        if protocol:
            headers.append((_STREAM_PROTOCOL if request.transport is Transport.SPDY else _WEBSOCKET_PROTOCOL, protocol))
        # h11 gives the trailing bytes only when it has seen the request's end, which an upgrade has no body before.
        self._http.next_event()
        answer = self._http.send(h11.InformationalResponse(status_code=101, headers=headers, reason=b"Switching Protocols"))
        return answer or b"", bytes(self._http.trailing_data[0])

    def reject(self, status: int, message: str, *, supported: Sequence[str] = ()) -> bytes:
        """An error answer; the connection is to be closed after it. `supported` lists the protocols that are spoken."""
        if self._answered:
            raise RuntimeError("the request was answered already")
        self._answered = True
        body = message.encode() + b"\n"
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        headers += [(_ACCEPTED_PROTOCOLS, name) for name in supported if name]
        answer = h11.Connection(h11.SERVER)
        # A fresh connection: the one that parsed a broken request refuses to answer it with a head of its own.
        reason = HTTPStatus(status).phrase.encode()
        response = h11.Response(status_code=status, headers=headers, reason=reason)
        parts = [answer.send(response), answer.send(h11.Data(data=body)), answer.send(h11.EndOfMessage())]
        return b"".join(part for part in parts if part)


def websocket_accept(key: str) -> str:
    """The value that proves a WebSocket key was understood."""
    return base64.b64encode(hashlib.sha1(key.encode() + _WEBSOCKET_GUID, usedforsecurity=False).digest()).decode()


def _parse(request: h11.Request) -> UpgradeRequest:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
    if "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]:
        raise RemoteProtocolError("a request for a stream has no body", HTTPStatus.BAD_REQUEST)
    if "upgrade" not in _tokens(headers.get("connection", [])):
        return UpgradeRequest(method, target, None, ())
    upgrades = _tokens(headers.get("upgrade", []))
    if "websocket" in upgrades:
        return _parse_websocket(method, target, headers)
    if "spdy/3.1" in upgrades:
        offered = _split(headers.get(_STREAM_PROTOCOL.lower(), []))
        return UpgradeRequest(method, target, Transport.SPDY, tuple(offered))
    return UpgradeRequest(method, target, None, ())


def _parse_websocket(method: str, target: str, headers: dict[str, list[str]]) -> UpgradeRequest:
    key = headers.get("sec-websocket-key", [""])[0].strip()
    if method != "GET" or headers.get("sec-websocket-version", [""])[0].strip() != "13" or not _is_key(key):
        raise RemoteProtocolError("a WebSocket handshake needs GET, version 13 and a key", HTTPStatus.BAD_REQUEST)
    offered = _split(headers.get(_WEBSOCKET_PROTOCOL.lower(), []))
    return UpgradeRequest(method, target, Transport.WEBSOCKET, tuple(offered), key)


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _split(values: Sequence[str]) -> list[str]:
    return [name for value in values for part in value.split(",") if (name := part.strip())]


def _tokens(values: Sequence[str]) -> list[str]:
    return [name.lower() for name in _split(values)]
