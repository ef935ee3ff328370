"""What a pod asks for the CPUs of its containers, by annotations that the runtime handler must allow.

For programs that answer within microseconds: the kernel shall not balance load onto their CPUs, nor throttle them, nor
serve interrupts or sleep deeply there. Each annotation is the pod's, for all of its containers, or with `/CONTAINER` after
its name for one. They are heeded only where the container has whole CPUs of its own: a guaranteed pod, by the name of its
cgroup, and shares of a whole number of CPUs. Names and rules are CRI-O's.

This module is pure: it reads the annotations and says what the spec is to hold. `crid.tuning` changes the host's files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model import cpus
from crid.oci.spec.policy import allows

LOAD_BALANCING = "cpu-load-balancing.crio.io"
QUOTA = "cpu-quota.crio.io"
INTERRUPTS = "irq-load-balancing.crio.io"
C_STATES = "cpu-c-states.crio.io"
GOVERNOR = "cpu-freq-governor.crio.io"
SHARED = "cpu-shared.crio.io"

ISOLATED_VARIABLE = "OPENSHIFT_ISOLATED_CPUS"
SHARED_VARIABLE = "OPENSHIFT_SHARED_CPUS"
HOUSEKEEPING_VARIABLE = "OPENSHIFT_HOUSEKEEPING_CPUS"

HOUSEKEEPING = "housekeeping"
SHARES_OF_A_CPU = 1024
_OFF, _ON = frozenset(("true", "disable")), frozenset(("", "false", "enable"))
_PERIOD = 100_000


@dataclass(frozen=True, slots=True)
class CpuTuning:
    """What is wanted; the default is nothing."""

    no_load_balancing: bool = False
    no_quota: bool = False
    no_interrupts: bool = False
    housekeeping: bool = False
    """Whether the first CPU and its siblings go on serving interrupts."""
    latency: str = ""
    """For pm_qos_resume_latency_us (kernel, sysfs-devices-power): 0 for any, "n/a" for none, else microseconds."""
    governor: str = ""
    shared: bool = False

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return any(getattr(self, field.name) for field in fields(self))

    @property
    def needs_cpus(self) -> bool:
        """Whether the container must have CPUs of its own by number."""
        return any(getattr(self, field.name) for field in fields(self) if field.name != "no_quota")


NOTHING = CpuTuning()


def wanted(allowed: tuple[str, ...], pod: Mapping[str, str], container: str) -> CpuTuning:
    """Return what the pod's annotations ask for its container of that name, as far as `allowed` lists their names.

    Raises InvalidArgumentError naming an annotation whose value means nothing.
    """
    if not any(name.partition("/")[0] in _NAMES for name in pod):  # most pods
        return NOTHING

    def value(name: str) -> str:
        if not allows(allowed, name):
            return ""
        return pod.get(f"{name}/{container}", pod.get(name, ""))

    return CpuTuning(
        no_load_balancing=_is_off(LOAD_BALANCING, value(LOAD_BALANCING)),
        no_quota=_is_off(QUOTA, value(QUOTA)),
        no_interrupts=value(INTERRUPTS) == HOUSEKEEPING or _is_off(INTERRUPTS, value(INTERRUPTS)),
        housekeeping=value(INTERRUPTS) == HOUSEKEEPING,
        latency=_latency(value(C_STATES)),
        governor=_governor(value(GOVERNOR)),
        shared=allows(allowed, SHARED) and pod.get(f"{SHARED}/{container}") == "enable",
    )


_NAMES = frozenset((LOAD_BALANCING, QUOTA, INTERRUPTS, C_STATES, GOVERNOR, SHARED))


def has_own_cpus(cgroup_parent: str, resources: cri.LinuxContainerResources) -> bool:
    """Whether a container with these limits has whole CPUs, in a pod whose cgroup is that of no lesser quality of service."""
    lesser = any(word in cgroup_parent for word in ("burstable", "besteffort"))
    return not lesser and resources.cpu_shares % SHARES_OF_A_CPU == 0


def check(tuning: CpuTuning, resources: cri.LinuxContainerResources, shared: frozenset[int]) -> None:
    """Refuse what this container cannot have; `shared` is what the configuration gives. Raises InvalidArgumentError."""
    if tuning.needs_cpus and not resources.cpuset_cpus:
        raise InvalidArgumentError("CPU annotations: the container has no CPUs of its own, resources.cpuset_cpus is empty")
    if tuning.shared and not shared:
        raise InvalidArgumentError(f"annotation {SHARED}: the configuration has no shared_cpuset")


def environment(tuning: CpuTuning, own: frozenset[int], shared: frozenset[int], siblings: frozenset[int]) -> list[str]:
    """Return the variables that tell the program its CPUs. `siblings` are the threads of the core of the first of them."""
    found = []
    if tuning.shared:
        found += [f"{ISOLATED_VARIABLE}={cpus.to_list(own)}", f"{SHARED_VARIABLE}={cpus.to_list(shared)}"]
    if tuning.housekeeping and own:
        found.append(f"{HOUSEKEEPING_VARIABLE}={cpus.to_list(housekeeping(own, siblings))}")
    return found


def housekeeping(own: frozenset[int], siblings: frozenset[int]) -> frozenset[int]:
    """Return those of the container's CPUs that go on serving interrupts."""
    return own & (siblings | {min(own)})


def limit(section: dict[str, Any], tuning: CpuTuning, shared: frozenset[int]) -> None:
    """Change a `linux.resources.cpu`, or an update's, to what is wanted: what the client asked for stays what it is told."""
    if tuning.shared and section.get("cpus"):
        both = cpus.parse(section["cpus"]) | shared
        section["cpus"] = cpus.to_list(both)
        if section.get("quota", -1) > 0:
            section["quota"] = len(both) * section.get("period", _PERIOD)
    if tuning.no_quota:
        section["quota"] = -1


def exec_cpus(own: frozenset[int], shared: frozenset[int], tuning: CpuTuning) -> frozenset[int]:
    """Return the CPU for commands of the affinity "first": of the shared ones if the container has them, else its own."""
    pool = shared if tuning.shared else own
    return frozenset((min(pool),)) if pool else frozenset()


def _is_off(name: str, value: str) -> bool:
    if value not in _OFF | _ON:
        raise InvalidArgumentError(f"annotation {name}: {value[:64]!r} is neither disable nor enable")
    return value in _OFF


def _latency(value: str) -> str:
    known = {"": "", "enable": "0", "disable": "n/a"}
    if value in known:
        return known[value]
    match = re.fullmatch(r"max_latency:([0-9]{1,9})", value)
    if match is None or int(match[1]) == 0:
        raise InvalidArgumentError(
            f"annotation {C_STATES}: {value[:64]!r} is none of enable, disable, max_latency:MICROSECONDS"
        )
    return str(int(match[1]))


def _governor(value: str) -> str:
    if value and not re.fullmatch(r"[a-z_]{1,32}", value):
        raise InvalidArgumentError(f"annotation {GOVERNOR}: {value[:64]!r} is no name of a governor")
    return value
