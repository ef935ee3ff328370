"""cgroup v2: one tree, whose files are described in the kernel's admin-guide/cgroup-v2."""

import errno
import os
import time
from pathlib import Path

from crid.cgroup import devices, files, limits
from crid.cgroup.hierarchy import Hierarchy, ancestors, hugepage_sizes, relative
from crid.cri import api_pb2 as cri
from crid.errors import NotFoundError
from crid.model.resources import HostResources
from crid.model.stats import CgroupStats, CpuStats, DeviceUsage, HugepageUsage, MemoryStats, PressureStats

_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb", "misc", "rdma")


class V2(Hierarchy):
    """The unified hierarchy mounted at `root`."""

    unified = True
    _memory_limit_file = "memory.max"

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = str(root)

    def __repr__(self) -> str:
        return f"<V2 {self._root}>"

    def directories(self, path: str) -> list[str]:
        return [self._directory(path)]

    def directory(self, path: str, controller: str) -> str:
        return self._directory(path)

    def process_directory(self, path: str) -> str:
        return self._directory(path)

    def create(self, path: str) -> None:
        directory = self._root
        for ancestor in ancestors(path):
            self._enable_controllers(directory)
            directory = self._directory(ancestor)
            Path(directory).mkdir(exist_ok=True)

    def _enable_controllers(self, directory: str) -> None:
        """Let the cgroups below `directory` have controllers, each by itself: one that cannot be had stops no other."""
        available = set((files.read(f"{directory}/cgroup.controllers") or b"").decode().split())
        enabled = set((files.read(f"{directory}/cgroup.subtree_control") or b"").decode().split())
        for controller in _CONTROLLERS:
            if controller not in available - enabled:
                continue
            try:
                files.write(f"{directory}/cgroup.subtree_control", f"+{controller}")
            except OSError as error:
                # EBUSY: it has processes of its own. ENOENT, EINVAL, EOPNOTSUPP: lost, or a threaded subtree.
                if error.errno not in (errno.EBUSY, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                    raise

    def limit(self, path: str, resources: cri.LinuxContainerResources) -> None:
        plan = limits.plan_v2(resources, self.host_resources())
        limits.apply(plan, lambda setting: f"{self._directory(path)}/{setting.name}")

    def stats(self, path: str) -> CgroupStats:
        base = self._directory(path) + "/"
        timestamp = time.time_ns()
        # Every cgroup has a cpu.stat, with or without the controller.
        cpu = files.read_table(base + "cpu.stat")
        if not cpu:
            raise NotFoundError(f"cgroup {path} does not exist")
        return CgroupStats(
            timestamp=timestamp,
            cpu=_cpu(cpu),
            memory=_memory(base),
            pids=files.read_number(base + "pids.current"),
            pids_limit=files.read_number(base + "pids.max"),
            cpu_pressure=_pressure(base + "cpu.pressure"),
            memory_pressure=_pressure(base + "memory.pressure"),
            io_pressure=_pressure(base + "io.pressure"),
        )

    def device_usage(self, path: str) -> list[DeviceUsage]:
        return devices.parse_v2(files.read_long(f"{self._directory(path)}/io.stat"))

    def hugepage_usage(self, path: str) -> list[HugepageUsage]:
        return devices.hugepages(f"{self._directory(path)}/", "current")

    def oom_kills(self, path: str) -> int | None:
        return files.read_table(f"{self._directory(path)}/memory.events").get(b"oom_kill")

    def path_of(self, pid: int) -> str | None:
        for line in (files.read(f"/proc/{pid}/cgroup") or b"").splitlines():
            if line.startswith(b"0::"):
                return os.fsdecode(line[3:]).strip("/")
        return None

    def device_rules_of(self, pid: int) -> str | None:
        return None

    def host_resources(self) -> HostResources:
        controllers = (files.read(f"{self._root}/cgroup.controllers") or b"").split()
        with os.scandir(self._root) as entries:
            # The root itself has no limits to look for.
            swap = any(Path(entry.path, "memory.swap.max").exists() for entry in entries if entry.is_dir())
        return HostResources(
            cgroup_v2=True,
            hugepage_sizes=hugepage_sizes() if b"hugetlb" in controllers else frozenset(),
            swap_accounting=swap,
        )

    def _directory(self, path: str) -> str:
        return f"{self._root}/{relative(path)}"


def _cpu(table: dict[bytes, int]) -> CpuStats:
    throttled = table.get(b"throttled_usec")
    return CpuStats(
        usage=table[b"usage_usec"] * 1000,
        user=table.get(b"user_usec", 0) * 1000,
        system=table.get(b"system_usec", 0) * 1000,
        periods=table.get(b"nr_periods"),
        throttled_periods=table.get(b"nr_throttled"),
        throttled_time=None if throttled is None else throttled * 1000,
    )


def _memory(base: str) -> MemoryStats | None:
    usage = files.read_number(base + "memory.current")
    if usage is None:
        return None
    table = files.read_table(base + "memory.stat")
    events = files.read_table(base + "memory.events")
    return MemoryStats(
        usage=usage,
        working_set=max(usage - table.get(b"inactive_file", 0), 0),
        limit=files.read_number(base + "memory.max"),
        rss=table.get(b"anon"),
        cache=table.get(b"file"),
        page_faults=table.get(b"pgfault"),
        major_page_faults=table.get(b"pgmajfault"),
        swap_usage=files.read_number(base + "memory.swap.current"),
        swap_limit=files.read_number(base + "memory.swap.max"),
        oom_kills=events.get(b"oom_kill"),
        max_usage=files.read_number(base + "memory.peak"),
        limit_hits=events.get(b"max"),
        kernel=table.get(b"kernel"),
        mapped_file=table.get(b"file_mapped"),
    )


def _pressure(path: str) -> PressureStats | None:
    """Read a pressure file: `some` and, for the CPU only since Linux 5.13, `full`, each with avg10, avg60, avg300, total."""
    content = files.read(path)
    if not content:
        return None
    lines = {words[0]: words[1:] for words in map(bytes.split, content.splitlines())}
    return PressureStats(*_averages(lines[b"some"]), *_averages(lines.get(b"full", [b"=0"] * 4)))


def _averages(words: list[bytes]) -> tuple[float, float, float, int]:
    """Return the values of `avg10=0.00 avg60=0.00 avg300=0.00 total=0`."""
    values = [word.partition(b"=")[2] for word in words]
    return float(values[0]), float(values[1]), float(values[2]), int(values[3])
