"""How much of the caches and of the memory's bandwidth each class of RDT gets: from `rdt_config_file` to resctrl's lines.

The file's format is that of goresctrl, the library of CRI-O and containerd:

    partitions:
      exclusive:                       # partitions have parts of a cache that no other partition has
        l3Allocation: "60%"
        mbAllocation: ["100%"]
        classes:
          gold:                        # a class has a part of its partition's, which others may have, too
            l3Allocation: {all: "100%", "1": "50%"}
            mbAllocation: ["80%", "1000MBps"]

A share of a cache is a percentage, a range of them (`20-60%`), bits (`0-3`) or a mask (`0xf`), for each id of a cache or all;
with `code` and `data` beside `unified` where the two are told apart. Of a bandwidth's values the one in the unit of the machine
counts. A resource that nobody mentions is everybody's. All errors are InvalidArgumentError and name the place.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from crid.errors import InvalidArgumentError
from crid.model import cpus
from crid.model.rdt import BandwidthControl, CacheControl, RdtControls
from crid.oci.spec import document

T = TypeVar("T")

LEVELS = {"l2Allocation": "L2", "l3Allocation": "L3"}
BANDWIDTH = "mbAllocation"
KEYS = (*LEVELS, BANDWIDTH)
_UNLIMITED = 2**32 - 1
"""MB/s of who may have all of it."""
_PERCENT = re.compile(r"(?:([0-9]{1,3})-)?([0-9]{1,3})%")
_RATE = re.compile(r"([0-9]{1,10})(%|MBps)")
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Percent:
    """The part of a cache from one percentage up to another, of 1 to 100."""

    low: int
    high: int


CacheShare = Percent | int
"""A percentage, or a mask of bits relative to the lowest bit of what it is a share of."""
_WHOLE = Percent(1, 100)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one partition or class asks for; keys of the inner tables are ids of caches, None for all others."""

    caches: Mapping[str, Mapping[int | None, Mapping[str, CacheShare]]] = field(default_factory=dict)
    """By level; the innermost keys are "" (unified), CODE and DATA."""
    bandwidth: Mapping[int | None, Mapping[str, int]] | None = None
    """By unit, % and MBps."""


def parse(table: Mapping[str, Any], where: str) -> Allocation:
    """Return what `table`, a partition or a class of the file, asks for."""
    caches = {
        level: _by_id(table[key], f"{where}.{key}", _cache) for key, level in LEVELS.items() if table.get(key) is not None
    }
    bandwidth = table.get(BANDWIDTH)
    return Allocation(caches, None if bandwidth is None else _by_id(bandwidth, f"{where}.{BANDWIDTH}", _rates))


def _by_id(value: object, where: str, entry: Callable[[object, str], T]) -> dict[int | None, T]:
    """Return the entries by id of a cache; a value that is no table by ids is for all."""
    if not isinstance(value, dict) or "unified" in value:
        return {None: entry(value, where)}
    found: dict[int | None, T] = {}
    for key, each in document.table(value, where).items():
        made = entry(each, f"{where}.{key}")
        try:
            ids: list[int | None] = [None] if key == _ALL else list(cpus.parse(key))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{where}: {key[:64]!r} is neither all nor a list of caches") from error
        found.update(dict.fromkeys(ids, made))
    return found


def _cache(value: object, where: str) -> dict[str, CacheShare]:
    if not isinstance(value, dict):
        return {"": _share(value, where)}
    table = document.table(value, where, ("unified", "code", "data"))
    if "unified" not in table or ("code" in table) != ("data" in table):
        raise InvalidArgumentError(f"{where}: must have unified, and code only beside data")
    return {key.upper() if key != "unified" else "": _share(each, f"{where}.{key}") for key, each in table.items()}


def _share(value: object, where: str) -> CacheShare:
    text = document.filled(value, where)
    if (match := _PERCENT.fullmatch(text)) is not None:
        share = Percent(int(match[1] or 1) or 1, int(match[2]))
        if not 1 <= share.low <= share.high <= 100:
            raise InvalidArgumentError(f"{where}: {text!r} is no percentage of 1 to 100")
        return share
    try:
        mask = int(text, 0) if text.startswith("0x") else sum(1 << bit for bit in cpus.parse(text) if bit < 64)
    except (ValueError, InvalidArgumentError) as error:
        raise InvalidArgumentError(f"{where}: {text[:64]!r} is no share such as 50%, 0-3 or 0xf") from error
    if not 0 < mask < 1 << 64 or "0" in f"{mask:b}".rstrip("0"):
        raise InvalidArgumentError(f"{where}: {text[:64]!r} is not one block of neighbouring bits")
    return mask


def _rates(value: object, where: str) -> dict[str, int]:
    found = {}
    for index, each in enumerate(document.sequence(value, where)):
        text = document.text(each, f"{where}[{index}]")
        match = _RATE.fullmatch(text)
        if match is None or int(match[1]) > (100 if match[2] == "%" else _UNLIMITED):
            raise InvalidArgumentError(f"{where}[{index}]: {text[:64]!r} is no bandwidth such as 50% or 1000MBps")
        found[match[2]] = int(match[1])
    return found


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition, its place in the file, and its classes."""

    where: str
    asked: Allocation
    classes: Mapping[str, Allocation]


def lines(partitions: Mapping[str, Partition], optional: frozenset[str], machine: RdtControls) -> dict[str, list[str]]:
    """Return for each class the lines that resctrl takes. `optional` names the resources, L2, L3 and MB, that the machine
    may lack."""
    made: dict[str, list[str]] = {name: [] for partition in partitions.values() for name in partition.classes}
    for key, level in LEVELS.items():
        cache = machine.caches.get(level)
        if cache is None:
            if level not in optional:
                _refuse_asked(key, [where for where, asked in _places(partitions) if level in asked.caches])
            continue
        for kind in cache.kinds:
            values = _cache_lines(partitions, key, level, kind, cache)
            for name, value in values.items():
                made[name].append(f"{level}{kind}:{value}")
    if machine.bandwidth is None:
        if "MB" not in optional:
            _refuse_asked(BANDWIDTH, [where for where, asked in _places(partitions) if asked.bandwidth is not None])
    else:
        for name, value in _bandwidth_lines(partitions, machine.bandwidth).items():
            made[name].append(f"MB:{value}")
    return made


def _places(partitions: Mapping[str, Partition]) -> Iterator[tuple[str, Allocation]]:
    for partition in partitions.values():
        yield partition.where, partition.asked
        for name, asked in partition.classes.items():
            yield f"{partition.where}.classes.{name}", asked


def _refuse_asked(key: str, places: Sequence[str]) -> None:
    if places:
        raise InvalidArgumentError(f"{places[0]}.{key}: this machine cannot allocate that, and it is not optional")


def _joined(values: Mapping[int, int], form: str) -> str:
    return ";".join(f"{number}={value:{form}}" for number, value in sorted(values.items()))


def _cache_lines(partitions: Mapping[str, Partition], key: str, level: str, kind: str, cache: CacheControl) -> dict[str, str]:
    masks: dict[str, dict[int, int]] = {name: {} for partition in partitions.values() for name in partition.classes}
    for number in cache.ids:
        asked = {
            name: _of_kind(partition.asked.caches[level], number, kind)
            for name, partition in partitions.items()
            if level in partition.asked.caches
        }
        granted = _divided(asked, cache, f"partitions: {key} of cache {number}")
        for name, partition in partitions.items():
            base = granted.get(name, cache.mask)
            for class_name, own in partition.classes.items():
                where = f"{partition.where}.classes.{class_name}.{key}"
                if level in own.caches and level not in partition.asked.caches:
                    raise InvalidArgumentError(f"{where}: its partition has no {key}")
                share = _of_kind(own.caches[level], number, kind) if level in own.caches else _WHOLE
                masks[class_name][number] = _within(base, share, cache.min_bits, where)
    return {name: _joined(values, "x") for name, values in masks.items()}


def _of_kind(asked: Mapping[int | None, Mapping[str, CacheShare]], number: int, kind: str) -> CacheShare:
    shares = asked.get(number, asked.get(None, {"": _WHOLE}))
    return shares.get(kind, shares[""])


def _divided(asked: Mapping[str, CacheShare], cache: CacheControl, where: str) -> dict[str, int]:
    """Return the mask of each partition that asks for one. No two have a bit in common."""
    masks = {name: share for name, share in asked.items() if isinstance(share, int)}
    if masks and len(masks) < len(asked):
        raise InvalidArgumentError(f"{where}: partitions ask for bits or for percentages, not for both")
    if masks:
        taken = 0
        for mask in masks.values():
            if mask & taken or mask & ~cache.mask or mask.bit_count() < cache.min_bits:
                raise InvalidArgumentError(f"{where}: {mask:#x} overlaps, is too small, or is not within {cache.mask:#x}")
            taken |= mask
        return masks
    shares = {name: share for name, share in asked.items() if isinstance(share, Percent)}
    if any(share.low > 1 for share in shares.values()):
        raise InvalidArgumentError(f"{where}: a partition has no range of percentages")
    total = sum(share.high for share in shares.values())
    if total > 100:
        raise InvalidArgumentError(f"{where}: partitions ask for {total}% in all")
    return _placed({name: share.high for name, share in shares.items()}, cache, where)


def _placed(percentages: Mapping[str, int], cache: CacheControl, where: str) -> dict[str, int]:
    """Give bits to the smallest first, whose share may have to be rounded up; the largest gets what remains of their sum."""
    left = cache.mask.bit_length() * sum(percentages.values()) // 100
    counts = {}
    for position, (name, percentage) in enumerate(sorted(percentages.items(), key=lambda item: (item[1], item[0]))):
        wanted = max(cache.mask.bit_length() * percentage // 100, cache.min_bits)
        counts[name] = left if position == len(percentages) - 1 else wanted
        left -= counts[name]
        if left < 0 or counts[name] < cache.min_bits:
            raise InvalidArgumentError(f"{where}: {cache.mask.bit_length()} bits are not enough for all partitions")
    masks, lowest = {}, 0
    for name in sorted(percentages):
        masks[name] = ((1 << counts[name]) - 1) << lowest
        lowest += counts[name]
    return masks


def _within(base: int, share: CacheShare, min_bits: int, where: str) -> int:
    """Return the share of the bits of `base`."""
    lowest = (base & -base).bit_length() - 1
    if isinstance(share, int):
        mask = share << lowest
        if mask & ~base or mask.bit_count() < min_bits:
            raise InvalidArgumentError(f"{where}: {share:#x} is too small, or is not within its partition's {base:#x}")
        return mask
    width = base.bit_count()
    first, last = (share.low - 1) * width // 100, (share.high - 1) * width // 100
    first = max(min(first, last - min_bits + 1), 0)
    last = max(last, first + min_bits - 1)
    return ((1 << (last - first + 1)) - 1) << (first + lowest)


def _bandwidth_lines(partitions: Mapping[str, Partition], bandwidth: BandwidthControl) -> dict[str, str]:
    made: dict[str, str] = {}
    for partition in partitions.values():
        for name, own in partition.classes.items():
            where = f"{partition.where}.classes.{name}.{BANDWIDTH}"
            if own.bandwidth is not None and partition.asked.bandwidth is None:
                raise InvalidArgumentError(f"{where}: its partition has no {BANDWIDTH}")
            values = {}
            for number in bandwidth.ids:
                above = _rate(partition.asked.bandwidth, number, bandwidth, f"{partition.where}.{BANDWIDTH}")
                rate = _rate(own.bandwidth, number, bandwidth, where)
                values[number] = min(rate, above) if bandwidth.megabytes else max(rate * above // 100, bandwidth.minimum)
            made[name] = _joined(values, "d")
    return made


def _rate(asked: Mapping[int | None, Mapping[str, int]] | None, number: int, bandwidth: BandwidthControl, where: str) -> int:
    unit, whole = ("MBps", _UNLIMITED) if bandwidth.megabytes else ("%", 100)
    rates = {unit: whole} if asked is None else asked.get(number, asked.get(None, {unit: whole}))
    if unit not in rates:
        raise InvalidArgumentError(f"{where}: has no value in {unit}, in which this machine counts")
    return rates[unit]
