"""What the kernel's resctrl file system says about shares of caches and of memory bandwidth (filesystems/resctrl)."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CacheControl:
    """One level of cache. A share is a mask of neighbouring bits, each of which stands for a part of the cache."""

    ids: tuple[int, ...]
    """The caches of that level."""
    mask: int
    """All bits."""
    min_bits: int
    """The fewest bits of a share."""
    kinds: tuple[str, ...] = ("",)
    """CODE and DATA where the two have shares of their own."""


@dataclass(frozen=True, slots=True)
class BandwidthControl:
    """The memory's bandwidth, by cache: in per cent, or in MB/s where resctrl is mounted with mba_MBps."""

    ids: tuple[int, ...]
    minimum: int
    """The smallest percentage."""
    megabytes: bool = False


@dataclass(frozen=True, slots=True)
class RdtControls:
    """What this machine can allocate."""

    caches: Mapping[str, CacheControl] = field(default_factory=dict)
    """By level: L2, L3."""
    bandwidth: BandwidthControl | None = None
