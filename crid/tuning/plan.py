"""Which of the host's files a container's tuning is, with what in them. Pure but for looks at what there is.

Sources: kernel documentation, admin-guide/cgroup-v1/cpusets, admin-guide/cgroup-v2 ("Cpuset"), core-api/irq/irq-affinity,
admin-guide/pm/cpufreq, and Documentation/ABI/testing/sysfs-devices-power.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from crid.errors import FailedPreconditionError
from crid.model import cpus
from crid.tuning.files import HostFiles
from crid.tuning.ledger import Holding

SYS_CPU = "/sys/devices/system/cpu"
DEFAULT_AFFINITY = "/proc/irq/default_smp_affinity"
IRQBALANCE_FILES = ("/etc/default/irqbalance", "/etc/sysconfig/irqbalance")


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Directories: the container's own cgroup with its cpuset, that of its pod with its quota, and on v2 those above the
    container, from the top down."""

    unified: bool
    container: str
    pod: str
    ancestors: Sequence[str] = ()

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


def isolated(cgroups: Cgroups, own: frozenset[int]) -> list[Holding]:
    """On cgroup v2: the container's CPUs are a partition without load balancing, which every cgroup above must grant.

    Raises FailedPreconditionError on a kernel without such partitions (before 6.7).
    """
    wanted = cpus.to_list(own)
    return [
        *(Holding(f"{directory}/cpuset.cpus.exclusive", "list-with", wanted) for directory in cgroups.ancestors),
        Holding(f"{cgroups.container}/cpuset.cpus.exclusive", "list-with", wanted),
        Holding(f"{cgroups.container}/cpuset.cpus.partition", "value", "isolated"),
    ]


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
