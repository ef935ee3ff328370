import os
from pathlib import Path

import pytest

from crid.errors import ResourceExhaustedError
from crid.store.room import Room


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """Return the room of a file system with 100 bytes free."""
    real = os.statvfs(tmp_path)
    monkeypatch.setattr("crid.store.room.os.statvfs", lambda path: os.statvfs_result([1, 1, 9, 9, 100, *real[5:]]))
    return Room(tmp_path)


def test_what_does_not_fit_says_why(room: Room, tmp_path: Path) -> None:
    with pytest.raises(ResourceExhaustedError, match=f"^image a: needs at least 101 bytes in {tmp_path}, 100 are free$"):
        room.reserve("image a", {"x": 60, "y": 41}).__enter__()
    assert room.reserved() == 0


def test_what_others_have_reserved_is_not_free(room: Room) -> None:
    with room.reserve("image a", {"x": 60}):
        with room.reserve("image b", {"y": 40}), pytest.raises(ResourceExhaustedError, match="100 of them are for others"):
            room.reserve("image c", {"z": 1}).__enter__()
        assert room.reserved() == 60
    with room.reserve("image c", {"z": 100}):
        assert room.reserved() == 100


def test_what_is_written_is_needed_no_more(room: Room) -> None:
    with room.reserve("image a", {"x": 60, "y": 40}):
        room.written(30, "x", "unknown")
        assert room.reserved() == 70
        room.written(1000, "y")
        assert room.reserved() == 30
        with room.reserve("image b", {"z": 70}):
            room.written(70, "z")
    assert room.reserved() == 0


def test_the_same_thing_is_reserved_once(room: Room) -> None:
    """Whoever ends first, it stays reserved for the other."""
    first, second = room.reserve("image a", {"x": 80}), room.reserve("image b", {"x": 80, "y": 20})
    first.__enter__()
    second.__enter__()
    assert room.reserved() == 100
    first.__exit__(None, None, None)
    assert room.reserved() == 100
    second.__exit__(None, None, None)
    assert room.reserved() == 0


def test_a_failure_lets_go(room: Room) -> None:
    with pytest.raises(ZeroDivisionError), room.reserve("image a", {"x": 80}):
        raise ZeroDivisionError
    assert room.reserved() == 0
