import pytest

from crid.wire.protocol import RemoteProtocolError
from crid.wire.remotecommand import Transport
from crid.wire.upgrade import MAX_REQUEST_HEAD, HttpUpgrade, UpgradeRequest, websocket_accept
from tests.wire.clients import WEBSOCKET_KEY, request_head, websocket_head
from tests.wire.playbook import every_split

SPDY = request_head("POST", {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": ["v5", "v4"]})


def test_spdy_however_cut() -> None:
    for parts in every_split(SPDY):
        upgrade = HttpUpgrade()
        seen = [request for part in parts if (request := upgrade.receive_data(part)) is not None]
        assert seen == [UpgradeRequest("POST", "/exec/TOKEN", Transport.SPDY, ("v5", "v4"))]


def test_the_answer_and_what_came_behind_the_request() -> None:
    upgrade = HttpUpgrade()
    upgrade.receive_data(SPDY + b"\x80\x03more")
    answer, rest = upgrade.accept("v4")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Upgrade: SPDY/3.1\r\n" in answer
    assert b"X-Stream-Protocol-Version: v4\r\n" in answer
    assert rest == b"\x80\x03more"
    with pytest.raises(RuntimeError):
        upgrade.accept("v4")


def test_websocket() -> None:
    upgrade = HttpUpgrade()
    request = upgrade.receive_data(websocket_head("v5.channel.k8s.io", "v4.channel.k8s.io"))
    assert request is not None
    assert (request.transport, request.offered) == (Transport.WEBSOCKET, ("v5.channel.k8s.io", "v4.channel.k8s.io"))
    answer, _ = upgrade.accept("v5.channel.k8s.io")
    assert b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n" in answer
    assert f"Sec-WebSocket-Accept: {websocket_accept(WEBSOCKET_KEY)}\r\n".encode() in answer


def test_the_example_of_rfc_6455() -> None:
    assert websocket_accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("headers", [{}, {"Connection": "Upgrade", "Upgrade": "h2c"}, {"Upgrade": "SPDY/3.1"}])
def test_no_upgrade_that_is_spoken(headers: dict[str, str | list[str]]) -> None:
    request = HttpUpgrade().receive_data(request_head("GET", headers))
    assert request is not None
    assert request.transport is None


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        websocket_head().replace(b"GET", b"POST"),
        websocket_head().replace(b"13", b"12"),
        websocket_head().replace(WEBSOCKET_KEY.encode(), b"c2hvcnQ="),
        SPDY.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nabcde"),
        SPDY.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        b"GET /" + b"x" * (MAX_REQUEST_HEAD + 1),
        b"",
    ],
)
def test_bad_requests_are_the_clients_fault_and_can_be_answered(data: bytes) -> None:
    upgrade = HttpUpgrade()
    with pytest.raises(RemoteProtocolError) as raised:
        upgrade.receive_data(data)
    assert upgrade.reject(raised.value.code, "no").startswith(b"HTTP/1.1 4")


def test_a_rejection() -> None:
    answer = HttpUpgrade().reject(403, "unable to agree", supported=("v4.channel.k8s.io", ""))
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert head.count(b"X-Accepted-Stream-Protocol-Versions: ") == 1
    assert b"Connection: close" in head
    assert body == b"unable to agree\n"


def test_a_token_does_not_get_into_a_log() -> None:
    assert "TOKEN" not in repr(HttpUpgrade().receive_data(SPDY))
