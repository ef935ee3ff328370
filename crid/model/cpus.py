"""Sets of CPUs as the kernel writes them: lists (cpuset(7), "List format") and masks of hexadecimal words."""

import re
from collections.abc import Iterable

from crid.errors import InvalidArgumentError

_MAX_NUMBER = 65535
_PART = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_WORD = 8
"""Hexadecimal digits between two commas of a mask; the kernel takes no mask whose words are shorter."""


def parse(text: str) -> frozenset[int]:
    """Return the numbers in a list such as `0-3,8`; an empty one has none. Raises InvalidArgumentError saying what is wrong."""
    numbers: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise InvalidArgumentError(f"{text[:128]!r} must be a list such as 0-3,8")
        first, final = int(match[1]), int(match[2] or match[1])
        if not first <= final <= _MAX_NUMBER:
            raise InvalidArgumentError(f"{text[:128]!r} {part} is no range")
        numbers.update(range(first, final + 1))
    return frozenset(numbers)


def to_list(cpus: Iterable[int]) -> str:
    """Return the shortest list: numbers ascending, neighbours as ranges."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == final else f"{first}-{final}" for first, final in ranges)


def parse_mask(text: str) -> frozenset[int]:
    """Return the CPUs whose bits are set in a mask such as `ff,ffffffff`, of which the last bit is CPU 0.

    Raises InvalidArgumentError.
    """
    try:
        value = int(text.strip().replace(",", ""), 16)
    except ValueError as error:
        raise InvalidArgumentError(f"{text[:128]!r} is no mask such as ff,ffffffff") from error
    return frozenset(bit for bit in range(value.bit_length()) if value >> bit & 1)


def to_mask(cpus: Iterable[int], like: str) -> str:
    """Return the mask with as many words as the mask `like` has: the kernel refuses one that is longer than its own."""
    words = like.strip().count(",") + 1
    value = sum(1 << cpu for cpu in set(cpus) if cpu < words * _WORD * 4)
    digits = f"{value:0{words * _WORD}x}"
    return ",".join(digits[start : start + _WORD] for start in range(0, len(digits), _WORD))
