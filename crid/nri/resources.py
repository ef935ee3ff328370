"""Resource limits in NRI's words, the OCI's and the CRI's. Every limit may be unset, which is not zero."""

from typing import Any

from crid.cri import api_pb2 as cri
from crid.cri import nri_pb2 as nri
from crid.errors import InvalidArgumentError, UnimplementedError
from crid.nri.owners import Claim

MEMORY: dict[str, tuple[str, nri.Field.ValueType]] = {
    "limit": ("limit", nri.MemLimit),
    "reservation": ("reservation", nri.MemReservation),
    "swap": ("swap", nri.MemSwapLimit),
    "kernel": ("kernel", nri.MemKernelLimit),
    "kernel_tcp": ("kernelTCP", nri.MemTCPLimit),
    "swappiness": ("swappiness", nri.MemSwappiness),
    "disable_oom_killer": ("disableOOMKiller", nri.MemDisableOomKiller),
    "use_hierarchy": ("useHierarchy", nri.MemUseHierarchy),
}
CPU: dict[str, tuple[str, nri.Field.ValueType]] = {
    "shares": ("shares", nri.CPUShares),
    "quota": ("quota", nri.CPUQuota),
    "period": ("period", nri.CPUPeriod),
    "realtime_runtime": ("realtimeRuntime", nri.CPURealtimeRuntime),
    "realtime_period": ("realtimePeriod", nri.CPURealtimePeriod),
}
CPUSETS: dict[str, nri.Field.ValueType] = {"cpus": nri.CPUSetCPUs, "mems": nri.CPUSetMems}


def adjust_resources(limits: dict[str, Any], wanted: nri.LinuxResources, claim: Claim) -> None:
    """Set in the OCI's `limits` what is set in `wanted`, but for classes (crid.nri.classes).

    Raises FailedPreconditionError for what another plugin has set.
    """
    for section, names in (("memory", MEMORY), ("cpu", CPU)):
        message = getattr(wanted, section)
        for field, (name, number) in names.items():
            if message.HasField(field):
                claim(number)
                limits.setdefault(section, {})[name] = getattr(message, field).value
    for field, number in CPUSETS.items():
        if value := getattr(wanted.cpu, field):
            claim(number)
            limits.setdefault("cpu", {})[field] = value
    for limit in wanted.hugepage_limits:
        claim(nri.HugepageLimits, limit.page_size)
        kept = [item for item in limits.get("hugepageLimits", []) if item["pageSize"] != limit.page_size]
        limits["hugepageLimits"] = [*kept, {"pageSize": limit.page_size, "limit": limit.limit}]
    for key, value in wanted.unified.items():
        claim(nri.CgroupsUnified, key)
        limits.setdefault("unified", {})[key] = value
    if wanted.HasField("pids"):
        claim(nri.PidsLimit)
        limits["pids"] = {"limit": wanted.pids.limit}


def describe_limits(limits: dict[str, Any]) -> nri.LinuxResources:
    """Return the OCI's `linux.resources` in NRI's words."""
    made = nri.LinuxResources()
    for section, names in (("memory", MEMORY), ("cpu", CPU)):
        for field, (name, _) in names.items():
            if (value := limits.get(section, {}).get(name)) is not None:
                getattr(getattr(made, section), field).value = value
    for field in CPUSETS:
        setattr(made.cpu, field, limits.get("cpu", {}).get(field, ""))
    for limit in limits.get("hugepageLimits", []):
        made.hugepage_limits.add(page_size=limit["pageSize"], limit=limit["limit"])
    made.unified.update(limits.get("unified", {}))
    if "pids" in limits:
        made.pids.limit = limits["pids"]["limit"]
    for rule in limits.get("devices", []):
        device = made.devices.add(allow=rule["allow"], type=rule.get("type", "a"), access=rule.get("access", ""))
        for field in ("major", "minor"):
            if rule.get(field) is not None:
                getattr(device, field).value = rule[field]
    return made


def check_changeable(wanted: nri.LinuxResources) -> None:
    """Raise UnimplementedError for limits that cannot be changed in a container that exists."""
    for field in ("blockio_class", "rdt_class"):
        if wanted.HasField(field):
            raise UnimplementedError(f"NRI: {field} cannot be changed in a container that exists")
    for section, names in (("memory", MEMORY), ("cpu", CPU)):
        for field in names:
            if field not in ("limit", "swap", "shares", "quota", "period") and getattr(wanted, section).HasField(field):
                raise UnimplementedError(f"NRI: {section}.{field} cannot be changed in a container that exists")
    if wanted.HasField("pids"):
        raise UnimplementedError("NRI: pids cannot be changed in a container that exists")


def to_cri(wanted: nri.LinuxResources) -> cri.LinuxContainerResources:
    """Return those of the limits that the CRI has too. Raises InvalidArgumentError for numbers that it cannot hold."""
    pages = [cri.HugepageLimit(page_size=item.page_size, limit=item.limit) for item in wanted.hugepage_limits]
    try:
        return cri.LinuxContainerResources(
            cpu_period=wanted.cpu.period.value,
            cpu_quota=wanted.cpu.quota.value,
            cpu_shares=wanted.cpu.shares.value,
            cpuset_cpus=wanted.cpu.cpus,
            cpuset_mems=wanted.cpu.mems,
            memory_limit_in_bytes=wanted.memory.limit.value,
            memory_swap_limit_in_bytes=wanted.memory.swap.value,
            hugepage_limits=pages,
            unified=wanted.unified,
        )
    except ValueError as error:
        raise InvalidArgumentError(f"NRI: a limit is out of range: {error}") from error


def from_cri(asked: cri.LinuxContainerResources) -> nri.LinuxResources:
    """Return a CRI client's limits in NRI's words; zero is the CRI's "not set"."""
    made = nri.LinuxResources(
        hugepage_limits=[nri.HugepageLimit(page_size=item.page_size, limit=item.limit) for item in asked.hugepage_limits],
        unified=asked.unified,
    )
    if asked.cpuset_cpus or asked.cpuset_mems:
        made.cpu.cpus, made.cpu.mems = asked.cpuset_cpus, asked.cpuset_mems
    for message, field, value in (
        (made.cpu, "period", asked.cpu_period),
        (made.cpu, "quota", asked.cpu_quota),
        (made.cpu, "shares", asked.cpu_shares),
        (made.memory, "limit", asked.memory_limit_in_bytes),
        (made.memory, "swap", asked.memory_swap_limit_in_bytes),
    ):
        if value:
            getattr(message, field).value = value
    return made
