"""Which of the host's files a container's tuning is, with what in them. Pure but for looks at what there is.

Sources: kernel documentation, admin-guide/cgroup-v1/cpusets, admin-guide/cgroup-v2 ("Cpuset"), core-api/irq/irq-affinity,
admin-guide/pm/cpufreq, and Documentation/ABI/testing/sysfs-devices-power.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crid.errors import FailedPreconditionError
from crid.model import cpus
from crid.tuning.files import HostFiles
from crid.tuning.ledger import Holding

SYS_CPU = "/sys/devices/system/cpu"
DEFAULT_AFFINITY = "/proc/irq/default_smp_affinity"
IRQBALANCE_FILES = ("/etc/default/irqbalance", "/etc/sysconfig/irqbalance")
CHILD = "cgroup-child"
"""CRI-O's name for the cgroup with a container's own CPUs, below that of a container with shared ones."""
EXCLUSIVE = "cpuset.cpus.exclusive"
"""Linux 6.7 and later."""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Directories: the container's own cgroup with its cpuset, that of its pod with its quota, and on v2 those above the
    container, from the top down. Of an OCI runtime that puts the processes into a cgroup below its container's that is
    `processes`."""

    unified: bool
    container: str
    pod: str
    ancestors: Sequence[str] = ()
    processes: str = ""

    @property
    def threads(self) -> "Cgroups":
        """The cgroup for threads that are to keep to the container's own CPUs, in the place of the container's (v2)."""
        above = [self.container, *([self.processes] if self.processes not in ("", self.container) else [])]
        return replace(self, container=f"{above[-1]}/{CHILD}", ancestors=[*self.ancestors, *above], processes="")

    @property
    def quota(self) -> str:
        """The file of the pod's quota."""
        return f"{self.pod}/{'cpu.max' if self.unified else 'cpu.cfs_quota_us'}"


def no_quota(cgroups: Cgroups) -> list[Holding]:
    """The pod's CPU quota is lifted; the container's own is not set to begin with."""
    return [Holding(cgroups.quota, "value", "max" if cgroups.unified else "-1")]


def more_quota(cgroups: Cgroups, shared: frozenset[int], period: int) -> list[Holding]:
    """The pod's CPU quota is raised by what the shared CPUs are worth in a period of microseconds."""
    return [Holding(cgroups.quota, "quota-plus", str(len(shared) * period))]


def isolated(files: HostFiles, cgroups: Cgroups, own: frozenset[int]) -> list[Holding]:
    """On cgroup v2: the container's CPUs are a partition without load balancing, which every cgroup above must grant.

    Raises FailedPreconditionError on a kernel without the file by which they do. Linux 6.1 to 6.6 have isolated partitions,
    too, but only directly below another one: all other pods' cgroups would have to be taken out of their common one.
    """
    if not files.exists(f"{cgroups.container}/{EXCLUSIVE}"):
        raise FailedPreconditionError(f"load balancing cannot be ended: this kernel has no {EXCLUSIVE}, which is of Linux 6.7")
    wanted = cpus.to_list(own)
    return [
        *(Holding(f"{directory}/{EXCLUSIVE}", "list-with", wanted) for directory in cgroups.ancestors),
        Holding(f"{cgroups.container}/{EXCLUSIVE}", "list-with", wanted),
        Holding(f"{cgroups.container}/cpuset.cpus.partition", "value", "isolated"),
    ]


def make_child(files: HostFiles, cgroups: Cgroups, own: frozenset[int]) -> None:
    """On cgroup v2: make the cgroup for threads that are to keep to the container's own CPUs, not those that it shares.

    The container's program moves them there itself, by writing to its cgroup.threads. It is a threaded cgroup, since any
    other would take no process whose parts stay behind, nor share a parent with processes (kernel, cgroup-v2, "Threads").
    Idempotent; it goes with the container's. Raises OSError.
    """
    child = cgroups.threads.container
    for directory in cgroups.threads.ancestors[len(cgroups.ancestors) :]:
        files.write(f"{directory}/cgroup.subtree_control", "+cpu +cpuset")
    files.make_directory(child)
    if files.read(f"{child}/cgroup.type") != "threaded":
        files.write(f"{child}/cgroup.type", "threaded")
    files.write(f"{child}/cpuset.cpus", cpus.to_list(own))


def latency(own: frozenset[int], value: str) -> list[Holding]:
    """How long a CPU may take to wake up, which limits how deeply it sleeps."""
    return [Holding(f"{SYS_CPU}/cpu{cpu}/power/pm_qos_resume_latency_us", "value", value) for cpu in sorted(own)]


def governor(files: HostFiles, own: frozenset[int], name: str) -> list[Holding]:
    """The governor of each CPU's frequency. Raises FailedPreconditionError where a CPU has none of that name."""
    for cpu in sorted(own):
        path = f"{SYS_CPU}/cpu{cpu}/cpufreq/scaling_available_governors"
        known = files.read(path).split() if files.exists(path) else []
        if name not in known:
            raise FailedPreconditionError(f"CPU {cpu} has no frequency governor {name}, only: {', '.join(known) or 'none'}")
    return [Holding(f"{SYS_CPU}/cpu{cpu}/cpufreq/scaling_governor", "value", name) for cpu in sorted(own)]


def no_interrupts(own: frozenset[int], irqbalance: str) -> list[Holding]:
    """New interrupts go to other CPUs; `irqbalance` is its configuration, if there is one."""
    value = cpus.to_list(own)
    balanced = [Holding(irqbalance, "banned-cpus", value)] if irqbalance else []
    return [Holding(DEFAULT_AFFINITY, "mask-without", value), *balanced]


def siblings(files: HostFiles, cpu: int) -> frozenset[int]:
    """Return the threads of the core of `cpu`; itself alone where the kernel does not say."""
    path = f"{SYS_CPU}/cpu{cpu}/topology/thread_siblings_list"
    return (cpus.parse(files.read(path)) if files.exists(path) else frozenset()) | {cpu}
