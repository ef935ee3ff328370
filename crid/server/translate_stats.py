"""Accounting as CRI messages. A figure that the kernel did not give stays unset, which differs from zero."""

from crid.cri import api_pb2 as cri
from crid.lifecycle.layer_sizes import DiskUsage
from crid.lifecycle.stats import ContainerReading, InterfaceReading, SandboxReading
from crid.model.stats import CgroupStats, PressureStats


def container_stats(reading: ContainerReading) -> cri.ContainerStats:
    """Return one container's stats."""
    config = reading.container.metadata.config
    message = cri.ContainerStats(
        attributes=cri.ContainerAttributes(
            id=reading.container.id, metadata=config.metadata, labels=config.labels, annotations=config.annotations
        )
    )
    if reading.cgroup is not None:
        message.cpu.CopyFrom(_cpu(reading.cgroup, reading.nano_cores))
        message.memory.CopyFrom(_memory(reading.cgroup))
        if (swap := _swap(reading.cgroup)) is not None:
            message.swap.CopyFrom(swap)
        if reading.cgroup.io_pressure is not None:
            message.io.timestamp = reading.cgroup.timestamp
            message.io.psi.CopyFrom(_pressure(reading.cgroup.io_pressure))
    if reading.disk is not None:
        message.writable_layer.CopyFrom(_disk(reading.disk))
    return message


def sandbox_stats(reading: SandboxReading) -> cri.PodSandboxStats:
    """Return one pod's stats, with its containers'."""
    config = reading.sandbox.metadata.config
    message = cri.PodSandboxStats(
        attributes=cri.PodSandboxAttributes(
            id=reading.sandbox.id, metadata=config.metadata, labels=config.labels, annotations=config.annotations
        )
    )
    linux = message.linux
    linux.containers.extend(container_stats(item) for item in reading.containers)
    if reading.cgroup is not None:
        linux.cpu.CopyFrom(_cpu(reading.cgroup, reading.nano_cores))
        linux.memory.CopyFrom(_memory(reading.cgroup))
        if reading.cgroup.pids is not None:
            linux.process.timestamp = reading.cgroup.timestamp
            linux.process.process_count.value = reading.cgroup.pids
        if reading.cgroup.io_pressure is not None:
            linux.io.timestamp = reading.cgroup.timestamp
            linux.io.psi.CopyFrom(_pressure(reading.cgroup.io_pressure))
    if reading.interfaces:
        linux.network.timestamp = reading.timestamp
        linux.network.default_interface.CopyFrom(_interface(reading.interfaces[0]))
        linux.network.interfaces.extend(_interface(item) for item in reading.interfaces[1:])
    return message


def _value(number: int | None) -> cri.UInt64Value | None:
    return None if number is None else cri.UInt64Value(value=max(number, 0))


def _cpu(stats: CgroupStats, nano_cores: int | None) -> cri.CpuUsage:
    message = cri.CpuUsage(
        timestamp=stats.timestamp,
        usage_core_nano_seconds=_value(stats.cpu.usage if stats.cpu else None),
        usage_nano_cores=_value(nano_cores),
    )
    if stats.cpu_pressure is not None:
        message.psi.CopyFrom(_pressure(stats.cpu_pressure))
    return message


def _memory(stats: CgroupStats) -> cri.MemoryUsage:
    message = cri.MemoryUsage(timestamp=stats.timestamp)
    memory = stats.memory
    if memory is not None:
        available = None if memory.limit is None else memory.limit - memory.working_set
        message = cri.MemoryUsage(
            timestamp=stats.timestamp,
            working_set_bytes=_value(memory.working_set),
            available_bytes=_value(available),
            usage_bytes=_value(memory.usage),
            rss_bytes=_value(memory.rss),
            page_faults=_value(memory.page_faults),
            major_page_faults=_value(memory.major_page_faults),
        )
    if stats.memory_pressure is not None:
        message.psi.CopyFrom(_pressure(stats.memory_pressure))
    return message


def _swap(stats: CgroupStats) -> cri.SwapUsage | None:
    memory = stats.memory
    if memory is None or memory.swap_usage is None:
        return None
    available = None if memory.swap_limit is None else memory.swap_limit - memory.swap_usage
    return cri.SwapUsage(
        timestamp=stats.timestamp, swap_available_bytes=_value(available), swap_usage_bytes=_value(memory.swap_usage)
    )


def _pressure(pressure: PressureStats) -> cri.PsiStats:
    """The CRI counts totals in nanoseconds, the kernel in microseconds."""
    return cri.PsiStats(
        Full=cri.PsiData(
            Total=pressure.full_total * 1000,
            Avg10=pressure.full_avg10,
            Avg60=pressure.full_avg60,
            Avg300=pressure.full_avg300,
        ),
        Some=cri.PsiData(
            Total=pressure.some_total * 1000,
            Avg10=pressure.some_avg10,
            Avg60=pressure.some_avg60,
            Avg300=pressure.some_avg300,
        ),
    )


def _disk(usage: DiskUsage) -> cri.FilesystemUsage:
    return cri.FilesystemUsage(
        timestamp=usage.timestamp,
        fs_id=cri.FilesystemIdentifier(mountpoint=usage.mountpoint),
        used_bytes=_value(usage.used_bytes),
        inodes_used=_value(usage.inodes),
    )


def _interface(reading: InterfaceReading) -> cri.NetworkInterfaceUsage:
    return cri.NetworkInterfaceUsage(
        name=reading.name,
        rx_bytes=_value(reading.rx_bytes),
        rx_errors=_value(reading.rx_errors),
        tx_bytes=_value(reading.tx_bytes),
        tx_errors=_value(reading.tx_errors),
    )
