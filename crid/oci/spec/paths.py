"""Kernel files that a container may not read, or not write: `linux.maskedPaths` and `linux.readonlyPaths`.

The kubelet always sends a security context with the lists that it wants, and says "procMount: Unmasked" by sending empty
ones. So where a security context is given its lists count, even empty; where there is none, the defaults do, which are
those of Docker, CRI-O and the kubelet. A privileged container has neither.
"""

from crid.cri import api_pb2 as cri
from crid.oci.spec import absolute

DEFAULT_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
DEFAULT_READONLY = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def build(linux: cri.LinuxContainerConfig) -> tuple[list[str], list[str]]:
    """Return the masked and the read-only paths. Raises InvalidArgumentError for a relative one."""
    security = linux.security_context
    if security.privileged:
        return [], []
    if not linux.HasField("security_context"):
        return list(DEFAULT_MASKED), list(DEFAULT_READONLY)
    for field, paths in (("masked_paths", security.masked_paths), ("readonly_paths", security.readonly_paths)):
        for path in paths:
            absolute.require(path, f"security_context.{field}")
    return list(security.masked_paths), list(security.readonly_paths)
