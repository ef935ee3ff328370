import pytest

from crid import trace
from crid.errors import AlreadyExistsError
from crid.store.names import NameRegistry


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_name_is_held_until_its_holder_releases_it() -> None:
    names = NameRegistry("pod")
    names.reserve("a", "id1")
    names.reserve("b", "id2")
    assert [names.holder(name) for name in "abc"] == ["id1", "id2", ""]
    names.release("a", "id2")  # holds another one
    names.release("c", "id1")  # nobody holds it
    with pytest.raises(AlreadyExistsError):
        names.reserve("a", "id1")
    assert len(names) == 2
    names.release("a", "id1")
    names.release("a", "id1")
    assert names.reserve("a", "id3").holder == "id3"


async def test_whoever_finds_a_name_taken_learns_by_whom_since_when_and_at_which_step() -> None:
    clock = Clock()
    names = NameRegistry("container", clock)
    trace.begin("CreateContainer n")
    reservation = names.reserve("n", "id1")
    clock.now += 2.5
    trace.step("container", "creating its process")
    with pytest.raises(AlreadyExistsError) as raised:
        names.reserve("n", "id2")
    assert str(raised.value) == ("name n is reserved for container id1, being created for 2.5 s, now: creating its process")
    reservation.making = None
    clock.now += 60
    with pytest.raises(AlreadyExistsError) as raised:
        names.reserve("n", "id2")
    assert str(raised.value) == "name n is reserved for container id1, which exists since 1970-01-01T00:01:40Z"


def test_a_recovered_object_is_as_old_as_its_record_says() -> None:
    names = NameRegistry("pod")
    names.hold("n", "id1", 1_700_000_000_123_456_789)
    with pytest.raises(AlreadyExistsError, match="pod id1, which exists since 2023-11-14T22:13:20Z"):
        names.hold("n", "id2", 1)


async def test_a_clock_that_is_set_back_makes_nothing_younger_than_new() -> None:
    clock = Clock()
    names = NameRegistry("pod", clock)
    trace.begin("RunPodSandbox n")
    names.reserve("n", "id1")
    clock.now -= 50
    with pytest.raises(AlreadyExistsError, match=r"being created for 0\.0 s"):
        names.reserve("n", "id2")
    assert [reservation.holder for reservation in names.unfinished()] == ["id1"]
