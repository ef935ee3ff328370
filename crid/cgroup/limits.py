"""Limits of a cgroup as the kernel's files say them: for pods' cgroups, which no OCI runtime looks after.

`plan_v1` and `plan_v2` are pure: they say which file gets which value, in an order that the kernel takes; `apply` writes
them, all or none. What is zero in the request is left as it is. The OCI runtimes translate containers' limits by the same
rules (runtime-spec, config-linux, "Control groups").
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crid.cgroup import files
from crid.cri import api_pb2 as cri
from crid.model.resources import HostResources, linux_resources

_MAX_SHARES, _MAX_WEIGHT = 262144, 10000


@dataclass(frozen=True, slots=True)
class Setting:
    """One write: `value` into the file `name` of `controller`'s tree."""

    controller: str
    name: str
    value: str


def plan_v2(resources: cri.LinuxContainerResources, host: HostResources) -> list[Setting]:
    """Return the writes for cgroup v2. Raises InvalidArgumentError naming the CRI field."""
    wanted = linux_resources(resources, host)
    cpu, memory = wanted.get("cpu", {}), wanted.get("memory", {})
    plan = []
    if "shares" in cpu:
        plan.append(Setting("cpu", "cpu.weight", str(weight(cpu["shares"]))))
    if "quota" in cpu or "period" in cpu:
        quota = cpu.get("quota", -1)
        plan.append(Setting("cpu", "cpu.max", f"{quota if quota > 0 else 'max'} {cpu.get('period', 100000)}"))
    plan += [Setting("cpuset", f"cpuset.{key}", cpu[key]) for key in ("cpus", "mems") if key in cpu]
    if "limit" in memory:
        plan.append(Setting("memory", "memory.max", _or_max(memory["limit"])))
    if "swap" in memory:
        # The API counts memory and swap together, the kernel swap alone.
        swap = memory["swap"]
        plan.append(Setting("memory", "memory.swap.max", "max" if swap < 0 else str(swap - max(memory["limit"], 0))))
    plan += [
        Setting("hugetlb", f"hugetlb.{item['pageSize']}.max", str(item["limit"])) for item in wanted.get("hugepageLimits", ())
    ]
    plan += [Setting(key.partition(".")[0], key, value) for key, value in wanted.get("unified", {}).items()]
    return plan


def plan_v1(resources: cri.LinuxContainerResources, host: HostResources, memory_and_swap: int | None) -> list[Setting]:
    """Return the writes for cgroup v1; `memory_and_swap` is the limit of both now, None for none.

    Raises InvalidArgumentError naming the CRI field.
    """
    wanted = linux_resources(resources, host)
    cpu, memory = wanted.get("cpu", {}), wanted.get("memory", {})
    names = {"shares": "cpu.shares", "period": "cpu.cfs_period_us", "quota": "cpu.cfs_quota_us"}
    plan = [Setting("cpu", name, str(cpu[key])) for key, name in names.items() if key in cpu]
    plan += [Setting("cpuset", f"cpuset.{key}", cpu[key]) for key in ("cpus", "mems") if key in cpu]
    both = [
        Setting("memory", name, str(memory[key]))
        for key, name in (("limit", "memory.limit_in_bytes"), ("swap", "memory.memsw.limit_in_bytes"))
        if key in memory
    ]
    # The limit of both must never be the lower one, not even between two writes.
    rises = memory_and_swap is not None and not 0 < memory.get("limit", 0) <= memory_and_swap
    plan += reversed(both) if rises else both
    plan += [
        Setting("hugetlb", f"hugetlb.{item['pageSize']}.limit_in_bytes", str(item["limit"]))
        for item in wanted.get("hugepageLimits", ())
    ]
    return plan


def weight(shares: int) -> int:
    """Return cgroup v2's cpu.weight (1 to 10000) for v1's cpu.shares (2 to 262144), as the OCI runtimes do."""
    return 1 + (shares - 2) * (_MAX_WEIGHT - 1) // (_MAX_SHARES - 2)


def apply(plan: Iterable[Setting], path_of: Callable[[Setting], str]) -> None:
    """Write the plan. If one write fails those before it are taken back, and OSError names the file."""
    done: list[tuple[str, str]] = []
    try:
        for setting in plan:
            path = path_of(setting)
            before = (files.read(path) or b"").decode().strip()
            files.write(path, setting.value)
            done.append((path, before))
    except OSError:
        for path, before in reversed(done):
            with contextlib.suppress(OSError):
                files.write(path, f"{before}\n")  # an empty cpuset is a line, too
        raise


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)
