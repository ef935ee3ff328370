"""Exec and attach on the wire: which protocols there are, and a session for the one agreed on.

| version | adds |
| --- | --- |
| (none), channel.k8s.io | stdin, stdout, stderr, error; the error channel carries plain text |
| v2 | the client may close stdin without ending the rest |
| v3 | the resize channel, with a terminal |
| v4 | the error channel carries a metav1.Status in JSON, with the exit code |
| v5 | WebSocket only: byte 255 and a channel's number closes that channel |

Over SPDY a stream says what it is by its `streamType` header. Over WebSocket each message begins with the channel's
number; the base64 variants write the number as a digit, the rest as base64, in text messages.
Rules: Kubernetes, k8s.io/apimachinery/pkg/util/remotecommand and k8s.io/client-go/tools/remotecommand.
"""

from collections.abc import Sequence
from enum import Enum

from crid.wire.remotecommand_spdy import SpdyCommandSession
from crid.wire.remotecommand_websocket import WebSocketCommandSession
from crid.wire.session import CommandSession, Streams


class Transport(Enum):
    """What the HTTP request asked to be upgraded to."""

    SPDY = "SPDY/3.1"
    WEBSOCKET = "websocket"


_SPDY_VERSIONS = {"v4.channel.k8s.io": 4, "v3.channel.k8s.io": 3, "v2.channel.k8s.io": 2, "channel.k8s.io": 1, "": 1}
_BINARY_VERSIONS = {"v5.channel.k8s.io": 5, **_SPDY_VERSIONS}
_BASE64_VERSIONS = {
    "v4.base64.channel.k8s.io": 4,
    "v3.base64.channel.k8s.io": 3,
    "v2.base64.channel.k8s.io": 2,
    "base64.channel.k8s.io": 1,
}

PROTOCOLS: dict[Transport, tuple[str, ...]] = {
    Transport.SPDY: tuple(_SPDY_VERSIONS),
    Transport.WEBSOCKET: (*_BINARY_VERSIONS, *_BASE64_VERSIONS),
}
"""All that are spoken, best first; the empty one is what a client gets that names none."""


def negotiate(offered: Sequence[str], transport: Transport) -> str | None:
    """The first protocol offered that is spoken; "" if none was offered; None if they have none in common."""
    if not offered:
        return ""
    return next((name for name in offered if name and name in PROTOCOLS[transport]), None)


def command_session(protocol: str, transport: Transport, streams: Streams) -> CommandSession:
    """A session for a protocol that `negotiate` returned. Raises ValueError for any other."""
    if transport is Transport.SPDY and protocol in _SPDY_VERSIONS:
        return SpdyCommandSession(_SPDY_VERSIONS[protocol], streams)
    if transport is Transport.WEBSOCKET and protocol in _BINARY_VERSIONS:
        return WebSocketCommandSession(_BINARY_VERSIONS[protocol], streams, base64=False)
    if transport is Transport.WEBSOCKET and protocol in _BASE64_VERSIONS:
        return WebSocketCommandSession(_BASE64_VERSIONS[protocol], streams, base64=True)
    raise ValueError(f"{protocol!r} is no protocol of {transport.value}")
