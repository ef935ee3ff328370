"""No two pods share what crid chooses, whoever else is there and however the daemon ends."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, ResourceExhaustedError, UnavailableError
from crid.lifecycle.id_ranges import IdRangeAllocator
from crid.model.idmap import IdMap, IdRange, IdRanges, Origin
from crid.model.sandbox import PodSandbox, SandboxStatus
from crid.oci.spec.asked import USERNS_MODE
from crid.oci.spec.userns_request import UserNamespaceRequest
from crid.store.memory import MemoryStore
from tests.unit.lifecycle.world import World, build, pod_config
from tests.unit.store import objects

NOTHING = IdMap(IdRanges(()), IdRanges(()))
FIRST, GROUP = 100_000, 500_000


class Node:
    """An allocator, and the pods that it knows of."""

    def __init__(self, directory: Path, default: IdMap | None = None) -> None:
        self.sandboxes: MemoryStore[PodSandbox] = MemoryStore("pod")
        self.directory = directory
        self.files = directory / "subuid", directory / "subgid"
        self.give(f"containers:{FIRST}:100", f"containers:{GROUP}:100")
        self.allocator = IdRangeAllocator(self.sandboxes, "containers", default, files=self.files)

    def give(self, users: str, groups: str) -> None:
        for path, text in zip(self.files, (users, groups), strict=True):
            path.write_text(text + "\n")

    def allocate(self, name: str, size: int = 0, fixed: IdMap = NOTHING) -> tuple[str, str]:
        made = self.allocator.allocate(name, UserNamespaceRequest("asked", fixed, size))
        return made.users.to_kernel(), made.groups.to_kernel()

    def record(self, name: str, idmap: IdMap) -> None:
        metadata = replace(objects.sandbox_metadata(self.directory, name), idmap=idmap)
        self.sandboxes.add(PodSandbox(metadata, SandboxStatus(stopped_at=1)))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_each_pod_has_its_own(node: Node) -> None:
    assert node.allocate("a", 60) == ("0 100000 60", "0 500000 60")
    assert node.allocate("b", 40) == ("0 100060 40", "0 500060 40")
    with pytest.raises(
        ResourceExhaustedError, match=r"asked: 1 user ids .* 100 that .*subuid gives to 'containers' 0 are free"
    ):
        node.allocate("c", 1)
    node.allocator.settle("a")  # was not made
    node.allocator.settle("a")
    assert node.allocate("c", 50) == ("0 100000 50", "0 500000 50")


def test_pods_with_a_record_keep_theirs_until_it_is_gone(node: Node) -> None:
    """Whoever chose them, and although they are stopped."""
    node.record("a", IdMap.of(IdRange(FIRST, 10, origin=Origin.ALLOCATED), IdRange(GROUP + 5, 10, origin=Origin.ALLOCATED)))
    node.record("b", IdMap.of(IdRange(FIRST + 20, 10), IdRange(1, 1)))
    assert node.allocate("c", 10) == ("0 100010 10", "0 500015 10")
    assert node.allocate("d", 60) == ("0 100030 60", "0 500025 60")
    node.sandboxes.delete("b")
    assert node.allocate("e", 10)[0] == "0 100020 10"


def test_pieces_where_there_is_no_whole(node: Node) -> None:
    node.give("containers:10:5\nother:100:100\ncontainers:20:5", "containers:30:8")
    assert node.allocate("a", 8) == ("0 10 5\n5 20 3", "0 30 8")


def test_too_scattered(node: Node) -> None:
    node.give("\n".join(f"containers:{2 * number}:1" for number in range(200)), "containers:1000:200")
    with pytest.raises(ResourceExhaustedError, match="200 are free and too scattered"):
        node.allocate("a", 101)


def test_around_what_is_fixed(node: Node) -> None:
    """What the pod has of the host's is neither chosen nor mapped again."""
    fixed = IdMap(IdRanges((IdRange(7, 1, 3, Origin.HOST), IdRange(FIRST, 2, 50, Origin.HOST))), IdRanges(()))
    assert node.allocate("a", 10, fixed) == ("0 100002 3\n4 100005 6\n3 7 1\n50 100000 2", "0 500000 10")


def test_the_default_is_never_chosen(tmp_path: Path) -> None:
    node = Node(tmp_path, default=IdMap.of(IdRange(FIRST - 5, 10), IdRange(GROUP, 99)))
    assert node.allocate("a", 1) == ("0 100005 1", "0 500099 1")


def test_what_others_have_asked_for_they_may_share_but_not_what_is_anothers_alone(node: Node) -> None:
    given = IdMap.of(IdRange(FIRST + 99, 5), IdRange(1000, 5))
    node.allocate("a", fixed=given)
    node.allocate("b", fixed=given)
    node.allocate("c", 99)
    with pytest.raises(FailedPreconditionError, match="asked: the host's user ids 100098 to 100098 are those of pod c alone"):
        node.allocate("d", fixed=IdMap.of(IdRange(FIRST + 98, 5), IdRange(1000, 5)))
    with pytest.raises(FailedPreconditionError, match="asked: the host's group ids 500000 to 500001 are those of pod c alone"):
        node.allocate("d", fixed=IdMap.of(IdRange(1000, 5), IdRange(GROUP - 1, 3)))


def test_nothing_to_choose_from(node: Node) -> None:
    node.give("other:1:1", "containers:1:100")
    with pytest.raises(FailedPreconditionError, match=r"asked: .*subuid gives no user ids to 'containers'"):
        node.allocate("a", 1)
    node.give("containers:1:100", "")
    with pytest.raises(FailedPreconditionError, match=r"asked: .*subgid gives no group ids to 'containers'"):
        node.allocate("a", 1)
    node.files[1].unlink()
    node.files[1].mkdir()
    with pytest.raises(UnavailableError, match=r"asked: .*subgid: Is a directory"):
        node.allocate("a", 1)
    assert node.allocate("a", fixed=IdMap.of(IdRange(1, 5), IdRange(1, 5))) == ("0 1 5", "0 1 5")  # the files do not matter


# Through the use cases. Only the root that a test runs as may give a pod's files to somebody, so the pods keep its ids.


def auto(world: World, name: str) -> cri.PodSandboxConfig:
    for handler, host in world.parts.hosts.items():
        allowed = replace(host, policy=replace(host.policy, allowed_annotations=(USERNS_MODE,)))
        world.parts.hosts[handler] = allowed  # type: ignore[index]  # the world's is a dict
    config = pod_config(name)
    config.annotations[USERNS_MODE] = "auto:size=10"
    return config


@pytest.fixture(autouse=True)
def may_give_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a pod are given to ids that an unprivileged test may not give to."""
    monkeypatch.setattr("os.chown", lambda path, user, group: None)


def give(directory: Path) -> None:
    (directory / "subuid").write_text(f"containers:{FIRST}:20\n")
    (directory / "subgid").write_text(f"containers:{GROUP}:20\n")


def hosts_users(pod: PodSandbox) -> int:
    assert pod.metadata.idmap is not None
    return pod.metadata.idmap.root[0]


async def test_pods_made_at_the_same_time(world: World, tmp_path: Path) -> None:
    """Of three there are ids for two; what failed holds none, and a removed pod gives its own back."""
    give(tmp_path)
    asked = [auto(world, f"pod-{number}") for number in range(3)]
    first, second, third = await asyncio.gather(*(world.sandboxes.run(each, "") for each in asked), return_exceptions=True)
    assert isinstance(third, ResourceExhaustedError)
    assert isinstance(first, PodSandbox)
    assert isinstance(second, PodSandbox)
    assert {hosts_users(first), hosts_users(second)} == {FIRST, FIRST + 10}
    await world.sandboxes.stop(first.id)
    with pytest.raises(ResourceExhaustedError, match="annotation userns-mode"):
        await world.sandboxes.run(asked[2], "")
    await world.sandboxes.remove(first.id)
    assert hosts_users(await world.sandboxes.run(asked[2], "")) == hosts_users(first)


async def test_a_pod_that_cannot_be_made_holds_nothing(world: World, tmp_path: Path) -> None:
    give(tmp_path)
    world.kernel.failures["pin "] = OSError(28, "mount: no space")
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await world.sandboxes.run(auto(world, "pod"), "")
    world.kernel.failures.clear()
    assert hosts_users(await world.sandboxes.run(auto(world, "pod"), "")) == FIRST


async def test_a_new_daemon_knows_it_from_the_records(world: World, tmp_path: Path) -> None:
    give(tmp_path)
    pod = await world.sandboxes.run(auto(world, "pod"), "")
    again = build(tmp_path, world.parts.supervisor)
    for found in again.parts.state.load_sandboxes():
        again.parts.sandboxes.add(found)
    assert hosts_users(await again.sandboxes.run(auto(again, "other"), "")) == hosts_users(pod) + 10
