"""Who a process is: a pid alone is not an identity, since the kernel gives the number to somebody else later."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid and the start time of its process, in clock ticks after boot: field 22 of `/proc/PID/stat`, proc_pid_stat(5)."""

    pid: int
    start_time: int
