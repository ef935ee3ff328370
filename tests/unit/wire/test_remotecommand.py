import pytest

from crid.wire.remotecommand import PROTOCOLS, Transport, command_session, negotiate
from crid.wire.session import Streams


@pytest.mark.parametrize(
    ("offered", "transport", "agreed"),
    [
        (["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"], Transport.SPDY, "v4.channel.k8s.io"),
        (["v2.channel.k8s.io", "v4.channel.k8s.io"], Transport.SPDY, "v2.channel.k8s.io"),
        (["v5.channel.k8s.io"], Transport.WEBSOCKET, "v5.channel.k8s.io"),
        (["x", "v4.base64.channel.k8s.io"], Transport.WEBSOCKET, "v4.base64.channel.k8s.io"),
        (["v4.base64.channel.k8s.io"], Transport.SPDY, None),
        (["v5.channel.k8s.io"], Transport.SPDY, None),
        (["portforward.k8s.io", ""], Transport.WEBSOCKET, None),
        ([], Transport.SPDY, ""),
        ([], Transport.WEBSOCKET, ""),
    ],
)
def test_the_clients_first_choice_that_is_spoken(offered: list[str], transport: Transport, agreed: str | None) -> None:
    assert negotiate(offered, transport) == agreed


def test_there_is_a_session_for_each_and_for_nothing_else() -> None:
    for transport, names in PROTOCOLS.items():
        for name in names:
            assert not command_session(name, transport, Streams(stdout=True)).done
        with pytest.raises(ValueError, match="no protocol of"):
            command_session("v6.channel.k8s.io", transport, Streams())
