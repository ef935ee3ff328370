"""cgroup v1: a tree for each controller, or for some together, with a cgroup's directory in each (kernel,
admin-guide/cgroup-v1).

A hybrid host, which has the resource controllers here and an empty v2 tree beside them, is v1 too.
"""

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path

from crid.cgroup import devices, files, limits
from crid.cgroup.hierarchy import Hierarchy, ancestors, hugepage_sizes, relative
from crid.cri import api_pb2 as cri
from crid.errors import NotFoundError
from crid.model.resources import HostResources
from crid.model.stats import CgroupStats, CpuStats, DeviceUsage, HugepageUsage, MemoryStats

CONTROLLERS = frozenset(
    (
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
    )
)
SYSTEMD = "systemd"
"""The named hierarchy, without a controller, in which systemd and OCI runtimes keep track of processes."""


class V1(Hierarchy):
    """`mounts` maps each controller to the directory where its tree is mounted."""

    unified = False
    _memory_limit_file = "memory.limit_in_bytes"

    def __init__(self, mounts: Mapping[str, str]) -> None:
        self._mounts = dict(mounts)
        # Controllers that are mounted together are one tree under several names.
        self._trees = list({os.path.realpath(directory): directory for directory in self._mounts.values()}.values())
        self._process_tree = next(
            (mounts[name] for name in ("pids", "memory", "cpu", SYSTEMD) if name in mounts), self._trees[0]
        )

    def __repr__(self) -> str:
        return f"<V1 {','.join(sorted(self._mounts))}>"

    def directories(self, path: str) -> list[str]:
        path = relative(path)
        return [f"{tree}/{path}" for tree in self._trees]

    def directory(self, path: str, controller: str) -> str:
        return self._base(controller, relative(path)).rstrip("/")

    def process_directory(self, path: str) -> str:
        return f"{self._process_tree}/{relative(path)}"

    def create(self, path: str) -> None:
        for tree in self._trees:
            above = tree
            for ancestor in ancestors(path):
                directory = f"{tree}/{ancestor}"
                Path(directory).mkdir(exist_ok=True)
                if tree == self._mounts.get("cpuset"):
                    _inherit_cpuset(above, directory)
                above = directory

    def limit(self, path: str, resources: cri.LinuxContainerResources) -> None:
        path = relative(path)
        both = (
            files.read_number(self._base("memory", path) + "memory.memsw.limit_in_bytes") if "memory" in self._mounts else None
        )
        plan = limits.plan_v1(resources, self.host_resources(), both)
        limits.apply(plan, lambda setting: self._base(setting.controller, path) + setting.name)

    def stats(self, path: str) -> CgroupStats:
        path = relative(path)
        timestamp = time.time_ns()
        cpu, memory = self._cpu(path), self._memory(path)
        if cpu is None and memory is None and not self.exists(path):
            raise NotFoundError(f"cgroup {path} does not exist")
        pids = self._base("pids", path)
        return CgroupStats(
            timestamp=timestamp,
            cpu=cpu,
            memory=memory,
            pids=files.read_number(pids + "pids.current") if pids else None,
            pids_limit=files.read_number(pids + "pids.max") if pids else None,
        )

    def device_usage(self, path: str) -> list[DeviceUsage]:
        base = self._base("blkio", relative(path))
        if not base:
            return []
        names = ("io_service_bytes_recursive", "io_serviced_recursive")
        # The throttling layer sees all requests, a scheduler only those of its own devices.
        transferred, requests = (files.read_long(f"{base}blkio.throttle.{name}") for name in names)
        return devices.parse_v1(transferred, requests)

    def hugepage_usage(self, path: str) -> list[HugepageUsage]:
        base = self._base("hugetlb", relative(path))
        return devices.hugepages(base, "usage_in_bytes", "max_usage_in_bytes") if base else []

    def oom_kills(self, path: str) -> int | None:
        base = self._base("memory", relative(path))
        return files.read_table(base + "memory.oom_control").get(b"oom_kill") if base else None

    def path_of(self, pid: int) -> str | None:
        # Each tree may have the process elsewhere: the one with the accounting counts.
        return _path_of(pid, next((name for name in ("memory", "pids", "cpu") if name in self._mounts), SYSTEMD))

    def device_rules_of(self, pid: int) -> str | None:
        return _path_of(pid, "devices")

    def host_resources(self) -> HostResources:
        memory = self._base("memory", "")
        return HostResources(
            cgroup_v2=False,
            hugepage_sizes=hugepage_sizes() if "hugetlb" in self._mounts else frozenset(),
            swap_accounting=bool(memory) and Path(f"{memory}memory.memsw.limit_in_bytes").exists(),
        )

    def _base(self, controller: str, path: str) -> str:
        """Return the start of the names of a controller's files, empty if the controller is not mounted."""
        tree = self._mounts.get(controller)
        return f"{tree}/{path}/" if tree else ""

    def _cpu(self, path: str) -> CpuStats | None:
        base = self._base("cpuacct", path)
        usage = files.read_number(base + "cpuacct.usage") if base else None
        if usage is None:
            return None
        throttling = files.read_table(self._base("cpu", path) + "cpu.stat") if "cpu" in self._mounts else {}
        return CpuStats(
            usage=usage,
            user=files.read_number(base + "cpuacct.usage_user"),
            system=files.read_number(base + "cpuacct.usage_sys"),
            periods=throttling.get(b"nr_periods"),
            throttled_periods=throttling.get(b"nr_throttled"),
            throttled_time=throttling.get(b"throttled_time"),
        )

    def _memory(self, path: str) -> MemoryStats | None:
        base = self._base("memory", path)
        usage = files.read_number(base + "memory.usage_in_bytes") if base else None
        if usage is None:
            return None
        table = files.read_table(base + "memory.stat")  # total_*: with the cgroups below, as usage_in_bytes counts
        limit = files.read_number(base + "memory.limit_in_bytes")
        both = files.read_number(base + "memory.memsw.limit_in_bytes")
        return MemoryStats(
            usage=usage,
            working_set=max(usage - table.get(b"total_inactive_file", 0), 0),
            limit=limit,
            rss=table.get(b"total_rss"),
            cache=table.get(b"total_cache"),
            page_faults=table.get(b"total_pgfault"),
            major_page_faults=table.get(b"total_pgmajfault"),
            swap_usage=table.get(b"total_swap"),  # there only if the kernel accounts swap
            swap_limit=None if both is None or limit is None else max(both - limit, 0),
            oom_kills=files.read_table(base + "memory.oom_control").get(b"oom_kill"),
            max_usage=files.read_number(base + "memory.max_usage_in_bytes"),
            limit_hits=files.read_number(base + "memory.failcnt"),
            kernel=files.read_number(base + "memory.kmem.usage_in_bytes"),
            mapped_file=table.get(b"total_mapped_file"),
        )


def mounted_controllers(root: Path) -> dict[str, str]:
    """Return where the controllers are mounted below `root`, by name: a directory is called after all that share it."""
    mounts = {}
    for directory in sorted(root.iterdir()):
        for name in directory.name.split(","):
            if (name in CONTROLLERS or name == SYSTEMD) and (directory / "cgroup.procs").exists():
                mounts[name] = str(directory)
    return mounts


def _path_of(pid: int, controller: str) -> str | None:
    """Return the cgroup of a process in the tree of `controller`."""
    for line in (files.read(f"/proc/{pid}/cgroup") or b"").splitlines():
        _, names, path = os.fsdecode(line).split(":", 2)
        if controller in names.removeprefix("name=").split(","):
            return path.strip("/")
    return None


def _inherit_cpuset(above: str, directory: str) -> None:
    """A new cpuset is empty, and an empty one takes no processes: give it what is above, unless it has its own."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        inherited = (files.read(f"{above}/{name}") or b"").strip()
        if inherited and not (files.read(f"{directory}/{name}") or b"").strip():
            try:
                files.write(f"{directory}/{name}", inherited.decode())
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
