"""Limits of a slice as systemd's properties: systemd.resource-control(5), and the D-Bus interface's names for them.

systemd writes what it was told whenever it has reason to, so a limit that only the kernel knows may be lost any time. What
it has no property for (huge pages, memory and swap together on v1, cpusets on v1) is left to the kernel's files.
"""

import re

from crid.cgroup.limits import weight
from crid.cri import api_pb2 as cri
from crid.model.resources import HostResources, linux_resources

UNLIMITED = (1 << 64) - 1
_MICROSECONDS = 1_000_000
_DEFAULT_PERIOD = 100_000
_PERCENT = _MICROSECONDS // 100

_FILES = {
    "memory.min": "MemoryMin",
    "memory.low": "MemoryLow",
    "memory.high": "MemoryHigh",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
"""Files of cgroup v2, asked for by name, of which systemd has its own idea."""

Property = tuple[str, int | bytes | list[str]]
"""A D-Bus variant: its type, such as `t` for a number and `ay` for bytes, and its value."""


def slice_properties(resources: cri.LinuxContainerResources, host: HostResources) -> dict[str, Property]:
    """Return the properties that `resources` ask for, by name. Raises InvalidArgumentError naming the CRI field."""
    wanted = linux_resources(resources, host)
    cpu, memory = wanted.get("cpu", {}), wanted.get("memory", {})
    found: dict[str, Property] = {}
    if "shares" in cpu:
        found |= {"CPUWeight": ("t", weight(cpu["shares"]))} if host.cgroup_v2 else {"CPUShares": ("t", cpu["shares"])}
    if "quota" in cpu or "period" in cpu:
        found["CPUQuotaPerSecUSec"] = ("t", _per_second(cpu.get("quota", -1), cpu.get("period", _DEFAULT_PERIOD)))
    if "period" in cpu:
        found["CPUQuotaPeriodUSec"] = ("t", cpu["period"])
    if "limit" in memory:
        found["MemoryMax" if host.cgroup_v2 else "MemoryLimit"] = ("t", _or_unlimited(memory["limit"]))
    if host.cgroup_v2:
        if "swap" in memory:
            # The API counts memory and swap together, systemd and v2 swap alone.
            swap = memory["swap"]
            found["MemorySwapMax"] = ("t", UNLIMITED if swap < 0 else swap - max(memory["limit"], 0))
        for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
            if key in cpu:
                found[name] = ("ay", _bitmap(cpu[key]))
        for key, name in _FILES.items():
            if (number := _number(wanted.get("unified", {}).get(key, ""))) is not None:
                found[name] = ("t", number)
    return found


def _number(value: str) -> int | None:
    """Return what one of _FILES says; None for what is no plain number, of which the kernel is to say what it means."""
    return UNLIMITED if value == "max" else int(value) if re.fullmatch("[0-9]{1,19}", value) else None


def _per_second(quota: int, period: int) -> int:
    """Return microseconds of CPU time a second. systemd knows whole percents: rounded up, never below what was asked for."""
    if quota <= 0:
        return UNLIMITED
    return -(-quota * _MICROSECONDS // period // _PERCENT) * _PERCENT


def _or_unlimited(value: int) -> int:
    return UNLIMITED if value < 0 else value


def _bitmap(numbers: str) -> bytes:
    """Return a list such as 0-2,8 as a bitmap, the lowest number first."""
    bits = 0
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            bits |= 1 << number
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
