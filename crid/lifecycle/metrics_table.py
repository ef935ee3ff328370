"""The series of ListPodSandboxMetrics: names, units and labels are cAdvisor's, which dashboards and alerts are written for.

Each row says from which figures its samples come. The API carries whole numbers, so seconds are rounded down. A gauge goes
up and down, a counter only up.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from crid.cri import api_pb2 as cri
from crid.lifecycle.stats import InterfaceReading
from crid.linux.process_usage import ProcessUsage
from crid.model.stats import CgroupStats, CpuStats, DeviceUsage, HugepageUsage, MemoryStats, PressureStats

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value with the labels that the series has of its own; `timestamp` is 0, or when an old value was measured."""

    value: int
    labels: tuple[str, ...] = ()
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class Series(Generic[T]):
    """A row: `group` is one of crid.config.METRIC_GROUPS, or empty for what is always there."""

    group: str
    name: str
    help: str
    counter: bool
    read: Callable[[T], Iterable[Sample]]
    label_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """What the container's processes have, and how many files its first one may open."""

    usage: ProcessUsage
    open_files_limit: int | None


@dataclass(frozen=True, slots=True)
class DiskFigures:
    """The writable layer, and the file system that it is on; `measured_at` is in nanoseconds since the epoch."""

    device: str
    used_bytes: int | None
    measured_at: int
    limit_bytes: int
    inodes: int
    inodes_free: int


@dataclass(slots=True)
class ContainerFigures:
    """All that a container's samples come from; times are nanoseconds since the epoch."""

    now: int
    started_at: int
    resources: cri.LinuxContainerResources
    cgroup: CgroupStats | None
    devices: Sequence[tuple[str, DeviceUsage]] = field(default_factory=list)
    """By the device's path."""
    hugepages: Sequence[HugepageUsage] = field(default_factory=list)
    process: ProcessFigures | None = None
    disk: DiskFigures | None = None


def _samples(value: int | None, *labels: str) -> list[Sample]:
    return [] if value is None else [Sample(value, labels)]


def _seconds(nanoseconds: int | None) -> int | None:
    return None if nanoseconds is None else nanoseconds // 1_000_000_000


def _cpu(
    name: str, text: str, read: Callable[[CpuStats], int | None], label_keys: tuple[str, ...] = (), *labels: str
) -> Series[ContainerFigures]:
    def samples(figures: ContainerFigures) -> Iterable[Sample]:
        stats = figures.cgroup.cpu if figures.cgroup else None
        return _samples(read(stats), *labels) if stats else ()

    return Series("cpu", f"container_cpu_{name}", text, True, samples, label_keys)


def _memory(
    name: str, text: str, read: Callable[[MemoryStats], int | None], *, counter: bool = False, group: str = "memory"
) -> Series[ContainerFigures]:
    def samples(figures: ContainerFigures) -> Iterable[Sample]:
        stats = figures.cgroup.memory if figures.cgroup else None
        return _samples(read(stats)) if stats else ()

    return Series(group, f"container_{name}", text, counter, samples)


def _memory_failures(figures: ContainerFigures) -> list[Sample]:
    """The kernel counts a cgroup's faults with those below; cAdvisor's scopes are the same for a cgroup that has none."""
    memory = figures.cgroup.memory if figures.cgroup else None
    kinds = (("pgfault", memory.page_faults), ("pgmajfault", memory.major_page_faults)) if memory else ()
    return [sample for kind, count in kinds for scope in ("container", "hierarchy") for sample in _samples(count, kind, scope)]


def _pressure(
    resource: str, kind: str, text: str, of: Callable[[CgroupStats], PressureStats | None]
) -> Series[ContainerFigures]:
    """`waiting` is the kernel's `some`, `stalled` its `full`; both in microseconds."""

    def samples(figures: ContainerFigures) -> Iterable[Sample]:
        pressure = of(figures.cgroup) if figures.cgroup else None
        if pressure is None:
            return ()
        return _samples((pressure.full_total if kind == "stalled" else pressure.some_total) // 1_000_000)

    return Series("pressure", f"container_pressure_{resource}_{kind}_seconds_total", text, True, samples)


def _device(name: str, text: str, read: Callable[[DeviceUsage], int]) -> Series[ContainerFigures]:
    def samples(figures: ContainerFigures) -> Iterable[Sample]:
        return [Sample(read(usage), (path,)) for path, usage in figures.devices]

    return Series("diskIO", f"container_fs_{name}_total", text, True, samples, ("device",))


def _device_bytes(figures: ContainerFigures) -> list[Sample]:
    return [
        Sample(count, (path, str(usage.major), str(usage.minor), operation))
        for path, usage in figures.devices
        for operation, count in (
            ("Read", usage.read_bytes),
            ("Write", usage.write_bytes),
            ("Discard", usage.discard_bytes),
        )
    ]


def _disk(name: str, text: str, read: Callable[[DiskFigures], Sample | None]) -> Series[ContainerFigures]:
    def samples(figures: ContainerFigures) -> Iterable[Sample]:
        sample = read(figures.disk) if figures.disk else None
        return [Sample(sample.value, (figures.disk.device,), sample.timestamp)] if sample and figures.disk else ()

    return Series("disk", f"container_fs_{name}", text, False, samples, ("device",))


def _hugepages(name: str, text: str, read: Callable[[HugepageUsage], int | None]) -> Series[ContainerFigures]:
    def samples(figures: ContainerFigures) -> Iterable[Sample]:
        return [sample for usage in figures.hugepages for sample in _samples(read(usage), usage.page_size)]

    return Series("hugetlb", f"container_hugetlb_{name}_bytes", text, False, samples, ("pagesize",))


def _process(
    name: str, text: str, read: Callable[[ProcessFigures], int | None], label_keys: tuple[str, ...] = (), *labels: str
) -> Series[ContainerFigures]:
    def samples(figures: ContainerFigures) -> Iterable[Sample]:
        return _samples(read(figures.process), *labels) if figures.process else ()

    return Series("process", f"container_{name}", text, False, samples, label_keys)


def _threads(figures: ContainerFigures) -> list[Sample]:
    return _samples(figures.cgroup.pids) if figures.cgroup else []


def _threads_max(figures: ContainerFigures) -> list[Sample]:
    cgroup = figures.cgroup
    return [] if cgroup is None or cgroup.pids is None else _samples(cgroup.pids_limit or 0)


def _spec(name: str, text: str, read: Callable[[cri.LinuxContainerResources], int | None]) -> Series[ContainerFigures]:
    return Series("spec", f"container_spec_{name}", text, False, lambda figures: _samples(read(figures.resources)))


def _limit(value: int) -> int:
    return value if 0 < value < 1 << 62 else 0


def _reservation(resources: cri.LinuxContainerResources) -> int:
    value = resources.unified.get("memory.min", "")
    return _limit(int(value)) if value.isascii() and value.isdigit() else 0


def _network(name: str, text: str, read: Callable[[InterfaceReading], int]) -> Series[tuple[InterfaceReading, ...]]:
    def samples(interfaces: tuple[InterfaceReading, ...]) -> list[Sample]:
        return [Sample(read(interface), (interface.name,)) for interface in interfaces]

    return Series("network", f"container_network_{name}_total", text, True, samples, ("interface",))


CONTAINER_SERIES: tuple[Series[ContainerFigures], ...] = (
    Series(
        "",
        "container_last_seen",
        "When crid last read the container's figures, in seconds since the epoch.",
        False,
        lambda figures: _samples(_seconds(figures.now)),
    ),
    _cpu("usage_seconds_total", "CPU time used, in seconds, of all CPUs.", lambda cpu: _seconds(cpu.usage), ("cpu",), "total"),
    _cpu("user_seconds_total", "CPU time spent in user mode, in seconds.", lambda cpu: _seconds(cpu.user)),
    _cpu("system_seconds_total", "CPU time spent in the kernel, in seconds.", lambda cpu: _seconds(cpu.system)),
    _cpu("cfs_periods_total", "Periods in which the CPU quota was in force.", lambda cpu: cpu.periods),
    _cpu("cfs_throttled_periods_total", "Periods in which the CPU quota ran out.", lambda cpu: cpu.throttled_periods),
    _cpu(
        "cfs_throttled_seconds_total",
        "Time spent waiting for the next period after the quota ran out, in seconds.",
        lambda cpu: _seconds(cpu.throttled_time),
    ),
    _memory("memory_usage_bytes", "Memory in use, page cache included.", lambda memory: memory.usage),
    _memory("memory_working_set_bytes", "Memory in use but for inactive file pages.", lambda memory: memory.working_set),
    _memory("memory_rss", "Anonymous memory in use, in bytes.", lambda memory: memory.rss),
    _memory("memory_cache", "Page cache in use, in bytes.", lambda memory: memory.cache),
    _memory("memory_mapped_file", "Files mapped into memory, in bytes.", lambda memory: memory.mapped_file),
    _memory("memory_swap", "Swap space in use, in bytes.", lambda memory: memory.swap_usage),
    _memory("memory_kernel_usage", "Memory in use by the kernel for the container, in bytes.", lambda memory: memory.kernel),
    _memory("memory_max_usage_bytes", "The most memory that was ever in use.", lambda memory: memory.max_usage),
    _memory("memory_failcnt", "How often memory use ran into its limit.", lambda memory: memory.limit_hits, counter=True),
    Series(
        "memory",
        "container_memory_failures_total",
        "Page faults, by kind: pgfault for all, pgmajfault for those that had to read.",
        True,
        _memory_failures,
        ("failure_type", "scope"),
    ),
    _memory(
        "oom_events_total",
        "Processes that the kernel killed for want of memory.",
        lambda memory: memory.oom_kills,
        counter=True,
        group="oom",
    ),
    _process("processes", "Processes that run.", lambda process: process.usage.processes),
    Series("process", "container_threads", "Threads that run.", False, _threads),
    Series("process", "container_threads_max", "Threads that may run at most; 0 for no limit.", False, _threads_max),
    _process(
        "file_descriptors",
        "Files that the processes have open.",
        lambda process: process.usage.file_descriptors,
    ),
    _process("sockets", "Sockets that the processes have open.", lambda process: process.usage.sockets),
    _process(
        "ulimits_soft",
        "Soft limits of the container's first process.",
        lambda process: process.open_files_limit,
        ("ulimit",),
        "max_open_files",
    ),
    _spec("cpu_period", "The period of the CPU quota, in microseconds.", lambda resources: resources.cpu_period or None),
    _spec("cpu_quota", "CPU time for each period, in microseconds.", lambda resources: max(resources.cpu_quota, 0) or None),
    _spec("cpu_shares", "The weight among containers that want CPU time.", lambda resources: resources.cpu_shares or None),
    _spec("memory_limit_bytes", "The memory limit; 0 for none.", lambda resources: _limit(resources.memory_limit_in_bytes)),
    _spec("memory_reservation_limit_bytes", "Memory that is not reclaimed; 0 for none.", _reservation),
    _spec(
        "memory_swap_limit_bytes",
        "The limit of memory and swap together; 0 for none.",
        lambda resources: _limit(resources.memory_swap_limit_in_bytes),
    ),
    Series(
        "spec",
        "container_start_time_seconds",
        "When the container was started, in seconds since the epoch.",
        False,
        lambda figures: _samples(_seconds(figures.started_at) or None),
    ),
    _disk(
        "usage_bytes",
        "Size of the writable layer.",
        lambda disk: None if disk.used_bytes is None else Sample(disk.used_bytes, (), disk.measured_at),
    ),
    _disk("limit_bytes", "Size of the file system that holds the writable layer.", lambda disk: Sample(disk.limit_bytes)),
    _disk("inodes_total", "Inodes of the file system that holds the writable layer.", lambda disk: Sample(disk.inodes)),
    _disk(
        "inodes_free", "Free inodes of the file system that holds the writable layer.", lambda disk: Sample(disk.inodes_free)
    ),
    _device("reads", "Read requests to the device.", lambda usage: usage.reads),
    _device("reads_bytes", "Bytes read from the device.", lambda usage: usage.read_bytes),
    _device("writes", "Write requests to the device.", lambda usage: usage.writes),
    _device("writes_bytes", "Bytes written to the device.", lambda usage: usage.write_bytes),
    Series(
        "diskIO",
        "container_blkio_device_usage_total",
        "Bytes moved to or from the device, by operation.",
        True,
        _device_bytes,
        ("device", "major", "minor", "operation"),
    ),
    _hugepages("usage", "Huge pages in use.", lambda usage: usage.usage),
    _hugepages("max_usage", "The most of huge pages that was ever in use.", lambda usage: usage.max_usage),
    *(
        _pressure(resource, kind, f"Time in which {who} waited for {what}, in seconds.", of)
        for resource, what, of in (
            ("cpu", "a CPU", lambda cgroup: cgroup.cpu_pressure),
            ("memory", "memory", lambda cgroup: cgroup.memory_pressure),
            ("io", "input or output", lambda cgroup: cgroup.io_pressure),
        )
        for kind, who in (("waiting", "at least one thread"), ("stalled", "all threads at once"))
    ),
)
"""A container's series."""

POD_SERIES: tuple[Series[tuple[InterfaceReading, ...]], ...] = (
    _network("receive_bytes", "Bytes received.", lambda interface: interface.rx_bytes),
    _network("receive_packets", "Packets received.", lambda interface: interface.rx_packets),
    _network("receive_packets_dropped", "Packets received and dropped.", lambda interface: interface.rx_dropped),
    _network("receive_errors", "Packets received with errors.", lambda interface: interface.rx_errors),
    _network("transmit_bytes", "Bytes sent.", lambda interface: interface.tx_bytes),
    _network("transmit_packets", "Packets sent.", lambda interface: interface.tx_packets),
    _network("transmit_packets_dropped", "Packets to be sent that were dropped.", lambda interface: interface.tx_dropped),
    _network("transmit_errors", "Packets that could not be sent.", lambda interface: interface.tx_errors),
)
"""A pod's series: its containers share its network."""
