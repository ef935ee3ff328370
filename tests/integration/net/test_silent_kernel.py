"""A kernel that holds a call about links for long: whoever waits is told, nobody else waits with them, and nothing is left."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from crid.errors import DeadlineExceededError
from crid.net import bridge
from crid.net.bridge import BridgeNetwork
from crid.net.links import BridgeLinks
from crid.net.rtnetlink import RouteSocket
from tests.harness.network import PodNamespaces, pod_links
from tests.harness.tools import PATIENCE
from tests.integration.net.conftest import MakeNetwork

pytestmark = pytest.mark.root


class Gate:
    """Holds whoever comes to it, from `shut` to `open`."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.open()

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def before(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        """Put it before a method of BridgeLinks."""
        real = getattr(BridgeLinks, method)

        def held(self_: BridgeLinks, route: RouteSocket, *args: Any) -> Any:
            self._open.wait()
            return real(self_, route, *args)

        monkeypatch.setattr(BridgeLinks, method, held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


async def settled(network: BridgeNetwork) -> None:
    """Wait for what goes on beside everything else."""
    await network._supervisor.close(PATIENCE)


async def test_a_pod_that_cannot_be_connected(
    network: BridgeNetwork, pods: PodNamespaces, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at the deadline; another is disconnected meanwhile; what the kernel makes after all is removed then."""
    gate.before(monkeypatch, "connect")
    other, pod = pods.new(), pods.new()
    await network.attach(other)
    gate.shut()
    with monkeypatch.context() as patch:
        patch.setattr(bridge, "PATIENCE", 0.1)
        with pytest.raises(DeadlineExceededError, match=r"pod .*: making its links did not end within"):
            await network.attach(pod)
    await network.detach(other)
    assert network._addresses.held().keys() == {pod.sandbox_id}
    gate.open()
    await settled(network)
    assert pod_links() == set()
    assert len(network._addresses) == 0


async def test_a_pod_that_cannot_be_disconnected(
    network: BridgeNetwork, pods: PodNamespaces, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stop fails at the deadline and works when it is asked for again; a new pod is connected meanwhile."""
    pod = pods.new()
    await network.attach(pod)
    gate.before(monkeypatch, "remove")
    gate.shut()
    with monkeypatch.context() as patch:
        patch.setattr(bridge, "PATIENCE", 0.1)
        with pytest.raises(DeadlineExceededError, match="removing links of 1 pods did not end within"):
            await network.detach(pod)
    assert network._addresses.held().keys() == {pod.sandbox_id}
    other = pods.new()
    await network.attach(other)
    gate.open()
    await network.detach(pod)
    await network.detach(other)
    assert pod_links() == set()
    assert len(network._addresses) == 0


async def test_a_start_and_an_end_without_an_answer(
    make_network: MakeNetwork, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The condition says what is wrong, and the end of the daemon is not held up."""
    gate.before(monkeypatch, "ensure")
    gate.shut()
    monkeypatch.setattr(bridge, "PATIENCE", 0.1)
    monkeypatch.setattr(bridge, "_CLOSE_GRACE", 0.1)
    network = make_network()
    await network.start()
    condition = network.condition()
    assert (condition.ready, condition.reason) == (False, "KernelSilent")
    assert "bridge cridt0: looking after it did not end within 0.1 s" in condition.message
    await network.close()
