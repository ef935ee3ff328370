"""Changing limits of containers and pods that exist: all of them, or none with an error.

What is in force is recorded, so that status tells the truth, also after a restart of the daemon.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crid import trace
from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError
from crid.lifecycle.parts import Parts
from crid.lifecycle.validate import require_cpuset
from crid.log import fields
from crid.model import ids
from crid.model.container import Container, ContainerState
from crid.model.resources import (
    check_pod_resources,
    linux_resources,
    merge_resources,
    pod_resources,
    undoing,
    validate_oom_score,
)
from crid.model.sandbox import PodSandbox
from crid.oci.spec import cpu_tuning

logger = logging.getLogger(__name__)


async def update_container(parts: Parts, container: Container, resources: cri.LinuxContainerResources) -> None:
    """Change a container's limits. The caller sees to it that no two changes of one container meet.

    Raises FailedPreconditionError for a container that has ended or that uses more memory than the new limit,
    InvalidArgumentError naming a field, and what the runtime raises; the old limits are in force then.
    """
    state = container.status.state
    if state not in (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.PAUSED):
        raise FailedPreconditionError(f"container {container.id} is {state.value}: its resources cannot be updated")
    host = parts.host_of(container)
    current = _in_force(container)
    merged, limits = updated(parts, container, resources)
    if resources.memory_limit_in_bytes > 0:
        await _require_room(parts, container, resources.memory_limit_in_bytes)
    try:
        trace.step("container update", "setting its limits")
        await _set(parts, container, limits)
    except CridError:
        try:
            trace.step("container update", "taking limits back")
            before = _tuned(parts, container, linux_resources(current, host.resources))
            await _set(parts, container, undoing(before, limits))
        except CridError as error:
            logger.warning(
                "a failed update of limits could not be taken back%s", fields(container=ids.short(container.id), error=error)
            )
        raise
    trace.step("container update", "noting its limits")
    parts.state.record_container(container, lambda status: replace(status, resources=merged))
    if merged.cpuset_cpus != current.cpuset_cpus:
        await parts.tuning.after_update(container)


async def _set(parts: Parts, container: Container, limits: Mapping[str, Any]) -> None:
    """Have the OCI runtime set the limits, but for those that not every runtime can: a quota that is to be none, as crun cannot
    write -1 on cgroup v1, and huge pages.

    They come last, since runc sets the quota that it remembers with whatever else it is told.
    """
    runtime, cpu = parts.runtime.of(container), limits.get("cpu", {})
    lifts = cpu.get("quota", 0) < 0 and parts.cgroups.lifts_quotas
    rest = {key: value for key, value in cpu.items() if not (lifts and key == "quota")}
    await runtime.update(container, {key: rest if key == "cpu" else limits[key] for key in limits if key != "cpu" or rest})
    if lifts:
        parts.cgroups.lift_quota(container, cpu.get("period", 0))
    if pages := limits.get("hugepageLimits"):
        parts.cgroups.limit_huge_pages(container, {page["pageSize"]: page["limit"] for page in pages})


def updated(
    parts: Parts, container: Container, resources: cri.LinuxContainerResources
) -> tuple[cri.LinuxContainerResources, dict[str, Any]]:
    """Return the limits that a container has after an update, as the CRI and as the OCI runtime say them.

    Raises InvalidArgumentError naming a field.
    """
    validate_oom_score(resources)  # which the merged ones do not have: it stays as it is
    require_cpuset(resources)
    host = parts.host_of(container)
    merged = merge_resources(_in_force(container), resources)
    limits = linux_resources(merged, host.resources, min_memory=host.policy.min_memory)
    return merged, _tuned(parts, container, limits)


def _tuned(parts: Parts, container: Container, limits: dict[str, Any]) -> dict[str, Any]:
    """Return the limits with what CPU annotations make of them."""
    wanted = parts.tuning.wanted(container)
    if wanted.tuning.wanted:
        cpu_tuning.limit(limits.setdefault("cpu", {}), wanted.tuning, wanted.shared)
    return limits


def _in_force(container: Container) -> cri.LinuxContainerResources:
    return container.status.resources or container.metadata.config.linux.resources


async def _require_room(parts: Parts, container: Container, limit: int) -> None:
    """Refuse a memory limit below what is in use: on cgroup v2 the kernel would take it, and kill for it."""
    try:
        memory = (await asyncio.to_thread(parts.runtime.of(container).stats, container)).memory
    except (CridError, OSError):
        return  # nothing to compare with; the kernel decides
    if memory is not None and memory.working_set > limit:
        raise FailedPreconditionError(
            f"container {container.id}: resources.memory_limit_in_bytes: {limit} is below the {memory.working_set} bytes in use"
        )


async def update_sandbox(
    parts: Parts, sandbox: PodSandbox, overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources
) -> None:
    """Take note of a pod's new limits, and set them if the pod's cgroup is crid's own: the kubelet has resized its own. The
    caller sees to it that no two changes of one pod meet.

    Raises FailedPreconditionError for a stopped pod, InvalidArgumentError naming a field, UnavailableError if the kernel
    does not take the limits; nothing has changed then.
    """
    if not sandbox.status.ready:
        raise FailedPreconditionError(f"pod {sandbox.id} is stopped: its resources cannot be updated")
    check_pod_resources(overhead, resources)
    known = sandbox.status
    linux = sandbox.metadata.config.linux
    merged = merge_resources(known.resources or linux.resources, resources)
    overhead = merge_resources(known.overhead or linux.overhead, overhead)
    await parts.cgroups.limit(sandbox.metadata, pod_resources(overhead, merged))
    trace.step("pod update", "noting its limits")
    parts.state.update_sandbox(sandbox, lambda status: replace(status, resources=merged, overhead=overhead))
