"""This boot of the machine: what it is called, and how its clock relates to the calendar's."""

import functools
import os
import time

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
"""Clock ticks per second, the unit of a process's start time in /proc/PID/stat."""


@functools.cache
def boot_id() -> str:
    """Return the kernel's random id of this boot (random(4)). Whatever was recorded under another id lives no more.

    Raises OSError.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def started_at(ticks: int) -> int:
    """Return the time of `ticks` after boot in nanoseconds since the epoch, by the clock as it is set now."""
    boot = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return boot + ticks * (1_000_000_000 // CLOCK_TICKS)
