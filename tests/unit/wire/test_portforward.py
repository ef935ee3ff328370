import pytest

from crid.wire.portforward import PROTOCOLS, forward_session, negotiate
from crid.wire.remotecommand import Transport


def test_negotiation() -> None:
    assert negotiate(["portforward.k8s.io"], Transport.SPDY) == "portforward.k8s.io"
    assert negotiate([], Transport.SPDY) == "portforward.k8s.io"
    assert negotiate(["SPDY/3.1+portforward.k8s.io"], Transport.WEBSOCKET) == "SPDY/3.1+portforward.k8s.io"
    assert negotiate([], Transport.WEBSOCKET) == ""
    assert negotiate(["SPDY/3.1+portforward.k8s.io"], Transport.SPDY) is None


def test_there_is_a_session_for_each_and_for_nothing_else() -> None:
    for transport, names in PROTOCOLS.items():
        for name in names:
            assert not forward_session(name, transport, [80]).done
    with pytest.raises(ValueError, match="no protocol"):
        forward_session("v4.channel.k8s.io", Transport.SPDY, [80])


@pytest.mark.parametrize(("protocol", "most"), [("v4.channel.k8s.io", 127), ("", 127), ("v4.base64.channel.k8s.io", 5)])
def test_channels_are_for_so_many_ports(protocol: str, most: int) -> None:
    assert not forward_session(protocol, Transport.WEBSOCKET, [80] * most).done
    for count in (0, most + 1):
        with pytest.raises(ValueError, match=f"forwards 1 to {most} ports, not {count}"):
            forward_session(protocol, Transport.WEBSOCKET, [80] * count)
