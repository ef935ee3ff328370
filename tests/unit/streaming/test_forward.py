"""Pairs of streams that are not completed. Whole forwards are in tests/integration/streaming/test_port_forward.py."""

import asyncio

import pytest

from crid.oci.runtime import Streams
from crid.streaming import forward
from crid.streaming.forward import ForwardWork
from crid.tasks import Supervisor
from crid.wire.portforward_spdy import SpdyForwardSession
from crid.wire.session import ForwardPending
from tests.harness.tools import until


class Session(SpdyForwardSession):
    """Notes which requests have expired."""

    def __init__(self) -> None:
        super().__init__()
        self.expired: list[str] = []

    def expire(self, request_id: str) -> None:
        self.expired.append(request_id)


async def connect(port: int, streams: Streams) -> None:
    raise AssertionError("nothing is forwarded")


async def test_an_id_that_is_used_again_has_its_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    work = ForwardWork(session, connect, Supervisor("streaming"), idle_timeout=0, name="port-forward")
    for request_id, timeout in (("1", 0), ("2", 0), ("1", 3600)):
        monkeypatch.setattr(forward, "PAIR_TIMEOUT", timeout)
        work._handle(ForwardPending(request_id))
    await until(lambda: session.expired, "one to expire")
    for _ in range(10):
        await asyncio.sleep(0)
    assert session.expired == ["2"]
    work._forget_all()
