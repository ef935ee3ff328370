"""crid.net.cni without plugins: what is taken for attached when its own files cannot be read. The rest is in integration."""

import asyncio
import errno
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from crid.errors import UnavailableError
from crid.net import cni_config
from crid.net.cni import CniNetwork
from crid.net.cni_cache import CachedAttachment, cache_in
from crid.net.cni_config import NetworkList
from crid.net.cni_exec import Attachment
from crid.net.hostports import HostPorts
from crid.net.plugin import NetworkCondition, PodNetwork
from crid.net.ruleset import Bridge
from crid.net.table import Table

NETWORK = cni_config.parse(b'{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "a"}]}', "x")
POD, OTHER = "ab" * 32, "cd" * 32
PATIENCE = 30.0


class Asked:
    """The verbs of a network whose plugins are content with everything: what they were asked."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.valid: list[tuple[str, str]] | None = None
        self.looks = 0

    async def delete(self, cached: CachedAttachment) -> None:
        self.deleted.append(cached.attachment.container_id)

    async def collect(self, network: NetworkList, valid: Sequence[Attachment]) -> None:
        self.valid = [(item.container_id, item.interface) for item in valid]

    async def negotiate(self, network: NetworkList) -> NetworkList:
        return network

    async def status(self, network: NetworkList) -> None:
        self.looks += 1
        await asyncio.sleep(0)
        raise UnavailableError("not yet")

    async def check(self, cached: CachedAttachment) -> None:
        pass


class Node:
    """A network that is ready, with two pods attached."""

    def __init__(self, directory: Path) -> None:
        table = Table(Bridge("cridt0", (IPv4Network("10.91.0.0/24"),)))
        self.network = CniNetwork(directory / "net.d", [], directory / "crid", HostPorts(table))
        self.network._network, self.network._condition = NETWORK, NetworkCondition(True)
        self.network._verbs = self.asked = Asked()  # type: ignore[assignment]  # only what is asked
        self.cache = cache_in(directory / "crid")
        for pod in (POD, OTHER):
            self.cache.save(CachedAttachment(NETWORK, Attachment(pod, "/ns", "eth0")))
        self.file = directory / "crid" / "results" / f"net-{POD}-eth0"

    async def collected(self, *kept: str) -> None:
        """Have the network look for what belongs to nobody, and wait until new pods need not."""
        self.network.collect([PodNetwork(pod, "/ns") for pod in kept])
        async with asyncio.timeout(PATIENCE):
            await self.network._collected.wait()
            await self.network._released.wait()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def no_descriptors(*_: object) -> bytes:
    """What reading a file does where the process may have no more descriptors."""
    raise OSError(errno.EMFILE, "Too many open files")


async def test_what_belongs_to_nobody_is_released(node: Node) -> None:
    await node.collected(POD)
    assert (node.asked.valid, node.asked.deleted) == ([(POD, "eth0")], [OTHER])
    assert node.cache.holders() == {POD}


async def test_a_pod_whose_file_is_damaged_is_no_garbage(node: Node) -> None:
    node.file.write_bytes(b"{")
    await node.collected(POD, OTHER)
    assert sorted(node.asked.valid or ()) == [(POD, "eth0"), (OTHER, "eth0")]
    assert node.asked.deleted == []


@pytest.mark.parametrize("call", ["iterdir", "read_bytes"])
async def test_new_pods_do_not_wait_for_a_look_that_fails(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """Nothing is taken for garbage, either."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, call, no_descriptors)
        await node.collected(POD)
    assert "garbage collection failed" in caplog.text
    assert (node.asked.valid, node.asked.deleted) == (None, [])
    assert node.cache.holders() == {POD, OTHER}


async def test_a_pod_is_not_detached_by_guess_where_its_file_cannot_be_read_now(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = PodNetwork(POD, "/ns")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_descriptors)
        with pytest.raises(UnavailableError, match="Too many open files"):
            await node.network.detach(pod)
    assert (node.asked.deleted, node.cache.holds(POD)) == ([], True)
    await node.network.detach(pod)
    assert (node.asked.deleted, node.cache.holds(POD)) == ([POD], False)


async def test_pods_that_wait_for_a_network_do_not_wait_for_each_others_looks(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin may take seconds for each."""
    monkeypatch.setattr(node.network, "_load", lambda: NETWORK)
    node.network._condition = NetworkCondition(False)
    pods = [PodNetwork(f"{number:064x}", "/ns") for number in range(10)]
    refused = await asyncio.gather(*map(node.network.attach, pods), return_exceptions=True)
    assert {str(error).rpartition(": ")[2] for error in refused} == {"not yet"}
    assert node.asked.looks <= 2
