"""Workloads: CPU limits and annotations for pods that bear a workload's annotation (`[crid.runtime.workloads.NAME]`).

The configuration names the annotation that puts a pod into a workload and the limits that its containers get then; the pod
may set another limit for one of its containers with the annotation PREFIX/CONTAINER, whose value is JSON such as
`{"cpushares": 512}`. What neither says stays as the client has it. Names and rules are CRI-O's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model import cpus
from crid.model.resources import MAX_QUOTA, MIN_PERIOD, MIN_QUOTA, validate_resources

MONITOR = "POD"
"""The container's name under which the annotation limits the pod's monitors."""

_KEYS = {"cpushares": int, "cpuquota": int, "cpuperiod": int, "cpuset": str, "cpulimit": int}
_PERIOD = 100_000
_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class CpuLimits:
    """Zero and empty leave as it is. Quota and period are microseconds, the limit is thousandths of a CPU."""

    cpushares: int = 0
    cpuquota: int = 0
    cpuperiod: int = 0
    cpuset: str = ""
    cpulimit: int = 0

    def over(self, defaults: "CpuLimits") -> "CpuLimits":
        """Return these limits, with `defaults` where they say nothing."""
        return CpuLimits(**{name: getattr(self, name) or getattr(defaults, name) for name in _KEYS})

    def apply(self, asked: cri.LinuxContainerResources) -> cri.LinuxContainerResources:
        """Return `asked` with these limits. A limit in thousandths goes before a quota. Raises InvalidArgumentError."""
        limited = cri.LinuxContainerResources()
        limited.CopyFrom(asked)
        limited.cpu_shares = self.cpushares or asked.cpu_shares
        limited.cpu_period = self.cpuperiod or asked.cpu_period
        limited.cpu_quota = self.cpuquota or asked.cpu_quota
        limited.cpuset_cpus = self.cpuset or asked.cpuset_cpus
        if self.cpulimit:
            quota = self.cpulimit * (limited.cpu_period or _PERIOD) // 1000
            limited.cpu_quota = min(max(quota, MIN_QUOTA), MAX_QUOTA)
        validate_resources(limited)
        return limited


@dataclass(frozen=True, slots=True)
class Workload:
    """One of the configured kinds. `allowed_annotations` go with those that the runtime handler allows."""

    name: str
    activation_annotation: str
    annotation_prefix: str = ""
    allowed_annotations: tuple[str, ...] = ()
    limits: CpuLimits = CpuLimits()

    def check(self) -> None:
        """Refuse what can only be wrong. Raises InvalidArgumentError naming the key below the workload's table."""
        if not self.activation_annotation:
            raise InvalidArgumentError("activation_annotation: must not be empty")
        limits = self.limits
        for key in _KEYS:
            value = getattr(limits, key)
            if isinstance(value, int) and value < 0:
                raise InvalidArgumentError(f"resources.{key}: must not be negative")
        if 0 < limits.cpuperiod < MIN_PERIOD:
            raise InvalidArgumentError(f"resources.cpuperiod: must be at least {MIN_PERIOD} microseconds")
        if 0 < limits.cpuquota < limits.cpushares:
            raise InvalidArgumentError("resources.cpuquota: must not be below cpushares")
        try:
            cpus.parse(limits.cpuset)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"resources.cpuset: {error}") from error
        limits.apply(cri.LinuxContainerResources())


def of(workloads: tuple[Workload, ...], pod: Mapping[str, str]) -> Workload | None:
    """Return the workload of a pod with these annotations: the first whose annotation it bears, whatever its value."""
    return next((each for each in workloads if each.activation_annotation in pod), None)


def allowed_annotations(workloads: tuple[Workload, ...], pod: Mapping[str, str], handlers: tuple[str, ...]) -> tuple[str, ...]:
    """Return which annotations count for a pod with these: those that its handler allows, and its workload."""
    workload = of(workloads, pod)
    return handlers if workload is None else (*handlers, *workload.allowed_annotations)


def limited(
    workload: Workload, pod: Mapping[str, str], container: str, asked: cri.LinuxContainerResources
) -> cri.LinuxContainerResources:
    """Return the limits of the pod's container of that name, which has asked for `asked`.

    Raises InvalidArgumentError naming the annotation.
    """
    name = f"{workload.annotation_prefix}/{container}"
    try:
        own = _parse(pod[name]) if name in pod else CpuLimits()
        return own.over(workload.limits).apply(asked)
    except InvalidArgumentError as error:
        where = f"annotation {name}" if name in pod else f"workload {workload.name}"
        raise InvalidArgumentError(f"{where}: {error}") from error


def _parse(text: str) -> CpuLimits:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise InvalidArgumentError(f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgumentError(f"{text[:64]!r} is no JSON object")
    for key, value in document.items():
        if key not in _KEYS:
            raise InvalidArgumentError(f"{key[:64]!r} is none of {', '.join(_KEYS)}")
        if type(value) is not _KEYS[key] or (type(value) is int and not 0 <= value <= _MAX):
            raise InvalidArgumentError(f"{key}: {str(value)[:64]!r} is no {'list of CPUs' if key == 'cpuset' else 'number'}")
    return CpuLimits(**document)
