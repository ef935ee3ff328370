"""What stays is wrong; what moves, or is being worked on, is on its way."""

from collections.abc import Collection

import pytest

from crid.errors import UnavailableError
from crid.lifecycle.check.finding import Finding, Severity
from crid.lifecycle.check.looks import LOOKS, findings_that_stay

STAYS = Finding(Severity.LEFTOVER, "pod", "a", "nobody needs its mount")
PASSES = Finding(Severity.ERROR, "container", "b", "its cgroup is missing", related="a")
NOTICE = Finding(Severity.NOTICE, "node", "/d", "was set aside")
BLOB = Finding(Severity.ERROR, "images", "/blob", "its content has another digest")


class Node:
    """A node that shows one list of findings after the other, the last for ever, and so its work; None is no daemon."""

    def __init__(self, *looks: list[Finding], busy: tuple[Collection[str] | None, ...] = ((),)) -> None:
        self._looks = looks
        self._busy = busy
        self.fully: list[bool] = []
        self.asked = 0

    async def look(self, full: bool) -> list[Finding]:
        self.fully.append(full)
        return self._looks[min(len(self.fully), len(self._looks)) - 1]

    async def busy(self) -> Collection[str] | None:
        self.asked += 1
        return self._busy[min(self.asked, len(self._busy)) - 1]

    async def found(self, *, full: bool = False) -> list[Finding]:
        return await findings_that_stay(self.look, self.busy, full=full, between=0)


@pytest.mark.parametrize("found", [[], [NOTICE]], ids=["nothing", "a notice"])
async def test_one_look_is_enough_where_nothing_is_wrong(found: list[Finding]) -> None:
    node = Node(found)
    assert await node.found() == found
    assert (len(node.fully), node.asked) == (1, 0)


async def test_one_look_is_enough_without_a_daemon() -> None:
    node = Node([STAYS, PASSES], [], busy=(None,))
    assert await node.found() == [STAYS, PASSES]
    assert len(node.fully) == 1


async def test_what_stays_is_found() -> None:
    node = Node([STAYS, NOTICE])
    assert await node.found() == [STAYS, NOTICE]
    assert len(node.fully) == LOOKS


@pytest.mark.parametrize("gone_in", range(1, LOOKS))
async def test_what_any_later_look_does_not_see_was_on_its_way(gone_in: int) -> None:
    looks = [[STAYS, PASSES]] * gone_in + [[STAYS]] + [[STAYS, PASSES]] * LOOKS
    assert await Node(*looks).found() == [STAYS]


async def test_what_only_a_later_look_sees_is_the_next_checks() -> None:
    """It had no chance to pass."""
    assert await Node([STAYS], [STAYS, PASSES]).found() == [STAYS]


async def test_no_more_looks_once_nothing_is_left() -> None:
    node = Node([PASSES], [])
    assert await node.found() == []
    assert len(node.fully) == 2


@pytest.mark.parametrize("asked", range(2 * (LOOKS - 1)))
async def test_what_is_being_worked_on_at_any_time_is_none(asked: int) -> None:
    """Whenever it is said: before or after any look."""
    busy: list[Collection[str]] = [()] * (2 * (LOOKS - 1))
    busy[asked] = ("b",)
    assert await Node([STAYS, PASSES], busy=tuple(busy)).found() == [STAYS]


async def test_a_container_is_passed_over_while_its_pod_is_worked_on() -> None:
    assert await Node([PASSES], busy=(("a",),)).found() == []


async def test_a_daemon_that_ends_meanwhile_works_on_nothing() -> None:
    node = Node([STAYS], busy=((), None))
    assert await node.found() == [STAYS]
    assert len(node.fully) == 2


async def test_contents_are_looked_at_once() -> None:
    """That takes long, and they do not change: a later look, which is short, need not see them."""
    node = Node([BLOB, PASSES], [])
    assert await node.found(full=True) == [BLOB]
    assert node.fully == [True, *[False] * (LOOKS - 1)]
    assert await Node([BLOB], []).found() == []


async def test_a_daemon_that_does_not_answer_is_an_error() -> None:
    async def busy() -> Collection[str] | None:
        raise UnavailableError("the daemon does not say what it is doing")

    with pytest.raises(UnavailableError):
        await findings_that_stay(Node([STAYS]).look, busy, between=0)
