"""What the kernel's accounting says of a cgroup, the same for cgroup v1 and v2. None: this kernel does not say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CpuStats:
    """CPU time in nanoseconds since the cgroup was made."""

    usage: int
    user: int | None = None
    system: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_time: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Memory in bytes. `working_set` is usage without inactive file pages, as the kubelet's eviction counts it."""

    usage: int
    working_set: int
    limit: int | None = None
    """None: no limit."""
    rss: int | None = None
    cache: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    swap_usage: int | None = None
    swap_limit: int | None = None
    oom_kills: int | None = None
    max_usage: int | None = None
    """The most that was ever in use; cgroup v2 knows it since Linux 5.19."""
    limit_hits: int | None = None
    """How often the usage ran into the limit."""
    kernel: int | None = None
    mapped_file: int | None = None


@dataclass(frozen=True, slots=True)
class PressureStats:
    """One resource's pressure stall information (kernel, accounting/psi): averages in percent, totals in microseconds."""

    some_avg10: float
    some_avg60: float
    some_avg300: float
    some_total: int
    full_avg10: float
    full_avg60: float
    full_avg300: float
    full_total: int


@dataclass(frozen=True, slots=True)
class CgroupStats:
    """One reading. `timestamp` is nanoseconds since the epoch, taken when the files were read."""

    timestamp: int
    cpu: CpuStats | None = None
    memory: MemoryStats | None = None
    pids: int | None = None
    pids_limit: int | None = None
    cpu_pressure: PressureStats | None = None
    memory_pressure: PressureStats | None = None
    io_pressure: PressureStats | None = None


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """What a cgroup has read from, written to and discarded on one block device since it was made."""

    major: int
    minor: int
    read_bytes: int = 0
    write_bytes: int = 0
    discard_bytes: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class HugepageUsage:
    """Huge pages of one size in use, in bytes. Only cgroup v1 keeps the most that ever were."""

    page_size: str
    """As the kernel writes it: 2MB, 1GB."""
    usage: int
    max_usage: int | None = None


def usage_nano_cores(previous: CgroupStats | None, current: CgroupStats) -> int | None:
    """Return the CPU time used between two readings, in nanoseconds per second; 1000000000 is one busy CPU.

    None if there is nothing to compare: no earlier reading, no CPU accounting, a clock or a counter that did not advance
    (the counter starts anew with a cgroup of the same name).
    """
    if previous is None or previous.cpu is None or current.cpu is None:
        return None
    elapsed, used = current.timestamp - previous.timestamp, current.cpu.usage - previous.cpu.usage
    return used * 1_000_000_000 // elapsed if elapsed > 0 and used >= 0 else None
