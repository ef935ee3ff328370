"""Interval arithmetic against sets of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from crid.model.idset import IdSet

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=6)


def numbers(ids: IdSet) -> list[int]:
    return [number for first, beyond in ids.intervals for number in range(first, beyond)]


def expected(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for first, length in ranges for number in range(first, first + length)}


@given(RANGES, RANGES)
def test_as_sets_of_numbers(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> None:
    left, right = IdSet.of(ours), IdSet.of(theirs)
    assert numbers(left) == sorted(expected(ours))
    assert len(left) == len(expected(ours))
    assert numbers(left - right) == sorted(expected(ours) - expected(theirs))
    assert numbers(left & right) == sorted(expected(ours) & expected(theirs))
    assert all(beyond < following for (_, beyond), (following, _) in zip(left.intervals, left.intervals[1:], strict=False))


@given(RANGES, st.data())
def test_the_lowest(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    ids = IdSet.of(ranges)
    count = data.draw(st.integers(0, len(ids)))
    found = ids.lowest(count)
    assert len(found) == count
    assert len(found & ids) == count
    whole = [first for first, beyond in ids.intervals if beyond - first >= count]
    if count and whole:
        assert found.intervals == ((whole[0], whole[0] + count),)
    else:
        assert numbers(found) == numbers(ids)[:count]


@given(RANGES, RANGES)
def test_pairs(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> None:
    count = min(len(IdSet.of(ours)), len(IdSet.of(theirs)))
    left, right = IdSet.of(ours).lowest(count), IdSet.of(theirs).lowest(count)
    pairs = left.pair(right)
    flat = [(first + step, other + step) for first, other, length in pairs for step in range(length)]
    assert flat == list(zip(numbers(left), numbers(right), strict=True))
    assert len(pairs) <= len(left.intervals) + len(right.intervals)
