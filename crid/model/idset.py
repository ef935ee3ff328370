"""Sets of ids as sorted intervals: which ids of the host are there, which of them are taken, which are free."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdSet:
    """Disjoint intervals `(first, beyond)`, in order; neighbours are one."""

    intervals: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> "IdSet":
        """Return the ids of `ranges`, each a first id and a length, in any order."""
        merged: list[tuple[int, int]] = []
        for first, length in sorted(ranges):
            if length <= 0:
                continue
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], first + length))
            else:
                merged.append((first, first + length))
        return cls(tuple(merged))

    def __len__(self) -> int:
        return sum(beyond - first for first, beyond in self.intervals)

    def __sub__(self, other: "IdSet") -> "IdSet":
        left = []
        for first, beyond in self.intervals:
            start = first
            for taken, taken_beyond in other.intervals:
                if taken_beyond <= start or taken >= beyond:
                    continue
                if taken > start:
                    left.append((start, taken))
                start = taken_beyond
            if start < beyond:
                left.append((start, beyond))
        return IdSet(tuple(left))

    def __and__(self, other: "IdSet") -> "IdSet":
        return self - (self - other)

    def lowest(self, count: int) -> "IdSet":
        """Return `count` ids: the lowest that follow one another, or else the lowest. There must be as many."""
        for first, beyond in self.intervals:
            if beyond - first >= count:
                return IdSet.of([(first, count)])
        taken = []
        for first, beyond in self.intervals:
            taken.append((first, min(count, beyond - first)))
            count -= taken[-1][1]
        return IdSet.of(taken)

    def pair(self, other: "IdSet") -> list[tuple[int, int, int]]:
        """Return which ids of this set and of `other`, which has as many, go together in order: a first of each, a length."""
        pairs = []
        ours, theirs = list(self.intervals), list(other.intervals)
        while ours:
            (first, beyond), (start, end) = ours[0], theirs[0]
            length = min(beyond - first, end - start)
            pairs.append((first, start, length))
            ours[:1] = [(first + length, beyond)] if first + length < beyond else []
            theirs[:1] = [(start + length, end)] if start + length < end else []
        return pairs
