"""The one place that turns the CRI's resource limits into the OCI spec's `linux.resources`, for create and for update.

Field by field, what the CRI calls "not specified" is the proto's zero, and leaves the key out. -1 means "no limit" for
memory, swap and CPU quota, as in the OCI spec (config-linux, "Memory", "CPU"). What the host cannot do is left out where
nobody asked in earnest (huge page sizes that it lacks, swap that it does not account), and refused otherwise.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model import cpus

# The kernel's own bounds (kernel, scheduler/sched-bwc; <linux/cgroup.h>): it clamps shares, and refuses the others.
MIN_SHARES, MAX_SHARES = 2, 262144
MIN_PERIOD, MAX_PERIOD = 1000, 1_000_000
MIN_QUOTA, MAX_QUOTA = 1000, (1 << 44) - 1

_UNIFIED_KEY = re.compile(r"[a-z0-9_]+\.[A-Za-z0-9_.]+")


@dataclass(frozen=True, slots=True)
class HostResources:
    """What the host's cgroups can limit. `hugepage_sizes` are names such as 2MB, empty without a hugetlb controller."""

    cgroup_v2: bool = True
    hugepage_sizes: frozenset[str] = frozenset()
    swap_accounting: bool = True


def linux_resources(resources: cri.LinuxContainerResources, host: HostResources, *, min_memory: int = 0) -> dict[str, Any]:
    """Return the OCI spec's `linux.resources`, only with the keys that `resources` asks for.

    A memory limit without a swap limit allows no swap, where the host accounts it. Below `min_memory` bytes nothing could
    be started. Raises InvalidArgumentError naming the CRI field.
    """
    validate_resources(resources)
    limit = resources.memory_limit_in_bytes
    _require(limit <= 0 or limit >= min_memory, "memory_limit_in_bytes", limit, f"is below the runtime's least, {min_memory}")
    if resources.unified and not host.cgroup_v2:
        raise InvalidArgumentError(f"resources.unified: {min(resources.unified)} needs cgroup v2, this host has v1")
    sections = {
        "cpu": _cpu(resources),
        "memory": _memory(resources, host),
        "hugepageLimits": [
            {"pageSize": limit.page_size, "limit": limit.limit}
            for limit in resources.hugepage_limits
            if limit.page_size in host.hugepage_sizes
        ],
        "unified": dict(resources.unified),
    }
    return {name: section for name, section in sections.items() if section}


def validate_resources(resources: cri.LinuxContainerResources) -> None:
    """Refuse limits that no kernel takes. Raises InvalidArgumentError naming the CRI field."""
    _require(resources.cpu_shares >= 0, "cpu_shares", resources.cpu_shares, "must not be negative")
    period, quota = resources.cpu_period, resources.cpu_quota
    _require(not period or MIN_PERIOD <= period <= MAX_PERIOD, "cpu_period", period, "must be 1000 to 1000000 microseconds")
    possible = quota in (0, -1) or MIN_QUOTA <= quota <= MAX_QUOTA
    _require(possible, "cpu_quota", quota, f"must be -1 or {MIN_QUOTA} to {MAX_QUOTA} microseconds")
    validate_oom_score(resources)
    cpuset("cpuset_cpus", resources)
    cpuset("cpuset_mems", resources)
    memory, swap = resources.memory_limit_in_bytes, resources.memory_swap_limit_in_bytes
    _require(memory >= -1, "memory_limit_in_bytes", memory, "must be -1 or more")
    _require(swap >= -1, "memory_swap_limit_in_bytes", swap, "must be -1 or more")
    if swap > 0:
        # The limit counts memory and swap together.
        _require(0 < memory <= swap, "memory_swap_limit_in_bytes", swap, f"must not be below the memory limit {memory}")
    for key, value in resources.unified.items():
        # A key becomes a file name. The core's own files would move, freeze or kill processes.
        safe = _UNIFIED_KEY.fullmatch(key) and not key.startswith("cgroup.")
        _require(bool(safe), "unified", key, "must be a controller's file, such as memory.high")
        _require(value.isprintable(), "unified", key, "must be set to one line of text")


def cpuset(field: str, resources: cri.LinuxContainerResources) -> frozenset[int]:
    """Return the numbers of cpuset_cpus or cpuset_mems. Raises InvalidArgumentError naming the field if it is no list."""
    try:
        return cpus.parse(getattr(resources, field))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"resources.{field}: {error}") from error


def validate_oom_score(resources: cri.LinuxContainerResources) -> None:
    """Refuse an OOM score that no process can have. Raises InvalidArgumentError naming the CRI field."""
    _require(-1000 <= resources.oom_score_adj <= 1000, "oom_score_adj", resources.oom_score_adj, "must be -1000 to 1000")


def merge_resources(current: cri.LinuxContainerResources, update: cri.LinuxContainerResources) -> cri.LinuxContainerResources:
    """Return `current` with what `update` sets: its zero fields keep what is in force, its huge page sizes and unified keys
    are set one by one. A new memory limit without a swap limit drops the swap limit, so that the usual rule gives one
    that fits. The OOM score is a process's, given once when it is created. Neither argument is changed."""
    merged = cri.LinuxContainerResources()
    merged.CopyFrom(current)
    sizes = {limit.page_size for limit in update.hugepage_limits}
    kept = [limit for limit in current.hugepage_limits if limit.page_size not in sizes]
    if update.memory_limit_in_bytes:
        merged.memory_swap_limit_in_bytes = 0
    merged.MergeFrom(update)  # the proto's own rule: fields that are not zero, and map keys, replace
    merged.oom_score_adj = current.oom_score_adj
    del merged.hugepage_limits[:]
    merged.hugepage_limits.extend([*kept, *update.hugepage_limits])
    return merged


def undoing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `linux.resources` that take `after` back to `before`, for a runtime that has failed halfway.

    A limit that `before` does not have becomes the kernel's default, where that can be said; the others stay.
    """
    defaults: dict[str, dict[str, Any]] = {
        "cpu": {"shares": 1024, "quota": -1, "period": 100_000},
        "memory": {"limit": -1, "swap": -1},
    }
    result = dict(before)
    for section, values in defaults.items():
        lost = {key: value for key, value in values.items() if key in after.get(section, {})}
        if merged := {**lost, **before.get(section, {})}:
            result[section] = merged
    return result


def check_pod_resources(overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources) -> None:
    """Refuse a pod's limits that no kernel takes. Raises InvalidArgumentError naming which of the two and the field."""
    for name, value in (("overhead", overhead), ("resources", resources)):
        try:
            validate_resources(value)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{name}: {error}") from error


def pod_resources(overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources) -> cri.LinuxContainerResources:
    """Return the limits of a pod's cgroup: what its containers may have, and on top what the pod itself costs.

    Only what adds up is added: shares, quota (over the pod's own period) and memory, each if the containers have a limit
    at all. The rest is the containers'.
    """
    both = cri.LinuxContainerResources()
    both.CopyFrom(resources)
    if resources.cpu_shares and overhead.cpu_shares:
        both.cpu_shares += overhead.cpu_shares
    if resources.cpu_quota > 0 and overhead.cpu_quota > 0:
        both.cpu_quota += overhead.cpu_quota * (resources.cpu_period or 100_000) // (overhead.cpu_period or 100_000)
    for name in ("memory_limit_in_bytes", "memory_swap_limit_in_bytes"):
        if getattr(resources, name) > 0:
            setattr(both, name, getattr(resources, name) + max(overhead.memory_limit_in_bytes, 0))
    return both


def _cpu(resources: cri.LinuxContainerResources) -> dict[str, Any]:
    values = {
        "shares": min(max(resources.cpu_shares, MIN_SHARES), MAX_SHARES) if resources.cpu_shares else 0,
        "quota": resources.cpu_quota,
        "period": resources.cpu_period,
        # The kernel takes no text that is much longer than the shortest one.
        "cpus": cpus.to_list(cpuset("cpuset_cpus", resources)),
        "mems": cpus.to_list(cpuset("cpuset_mems", resources)),
    }
    return {key: value for key, value in values.items() if value}


def _memory(resources: cri.LinuxContainerResources, host: HostResources) -> dict[str, Any]:
    limit = resources.memory_limit_in_bytes
    swap = resources.memory_swap_limit_in_bytes or limit
    values = {"limit": limit, "swap": swap if host.swap_accounting else 0}
    return {key: value for key, value in values.items() if value}


def _require(condition: bool, field: str, value: object, rule: str) -> None:
    if not condition:
        raise InvalidArgumentError(f"resources.{field}: {value!r} {rule}")
