"""Port-forward on the wire: which protocols there are, and a session for the one agreed on.

| transport | protocol | |
| --- | --- | --- |
| SPDY | portforward.k8s.io | pairs of streams |
| WebSocket | SPDY/3.1+portforward.k8s.io | the same, tunnelled in binary messages; kubectl and crictl |
| WebSocket | v4.channel.k8s.io, v4.base64.channel.k8s.io, none | channels for the ports named in the request |
"""

from collections.abc import Sequence

from crid.wire.portforward_spdy import SpdyForwardSession
from crid.wire.portforward_websocket import WebSocketForwardSession
from crid.wire.remotecommand import Transport
from crid.wire.session import ForwardSession
from crid.wire.tunnel import TunnelledForwardSession

_SPDY = "portforward.k8s.io"
_TUNNELLED = "SPDY/3.1+portforward.k8s.io"
_CHANNELS = "v4.channel.k8s.io"
_BASE64_CHANNELS = "v4.base64.channel.k8s.io"
MAX_CHANNEL_PORTS = 127
MAX_BASE64_CHANNEL_PORTS = 5
"""Two channels each. A channel's number is one byte; base64 writes it as one digit."""

PROTOCOLS: dict[Transport, tuple[str, ...]] = {
    Transport.SPDY: (_SPDY,),
    Transport.WEBSOCKET: (_TUNNELLED, _CHANNELS, _BASE64_CHANNELS, ""),
}
"""All that are spoken, best first; the empty one is what a client gets that names none."""


def negotiate(offered: Sequence[str], transport: Transport) -> str | None:
    """The first protocol offered that is spoken; if none was offered, the transport's default; None if none fits."""
    if not offered:
        return PROTOCOLS[transport][-1]
    return next((name for name in offered if name and name in PROTOCOLS[transport]), None)


def forward_session(protocol: str, transport: Transport, ports: Sequence[int] = ()) -> ForwardSession:
    """A session for a protocol that `negotiate` returned; `ports` are those of the CRI request, used by channels only.

    Raises ValueError for any other protocol, or if channels are asked for without ports, or with too many.
    """
    if transport is Transport.SPDY and protocol == _SPDY:
        return SpdyForwardSession()
    if transport is Transport.WEBSOCKET and protocol == _TUNNELLED:
        return TunnelledForwardSession()
    if transport is Transport.WEBSOCKET and protocol in PROTOCOLS[transport]:
        is_base64 = protocol == _BASE64_CHANNELS
        limit = MAX_BASE64_CHANNEL_PORTS if is_base64 else MAX_CHANNEL_PORTS
        if not 0 < len(ports) <= limit:
            raise ValueError(f"{protocol or 'a nameless protocol'} forwards 1 to {limit} ports, not {len(ports)}")
        return WebSocketForwardSession(ports, base64=is_base64)
    raise ValueError(f"{protocol!r} is no protocol of {transport.value}")
