"""Which files, and what in them."""

from dataclasses import replace

import pytest

from crid.errors import FailedPreconditionError
from crid.tuning import plan
from crid.tuning.files import HostFiles
from crid.tuning.ledger import Holding

V1 = plan.Cgroups(False, "/cg/cpuset/pod/c", "/cg/cpu/pod")
V2 = plan.Cgroups(True, "/cg/pods/pod/c", "/cg/pods/pod", ["/cg/pods", "/cg/pods/pod"])


def test_quotas() -> None:
    assert plan.no_quota(V1) == [Holding("/cg/cpu/pod/cpu.cfs_quota_us", "value", "-1")]
    assert plan.no_quota(V2) == [Holding("/cg/pods/pod/cpu.max", "value", "max")]
    assert plan.more_quota(V2, frozenset({0, 1}), 50000) == [Holding("/cg/pods/pod/cpu.max", "quota-plus", "100000")]


def test_an_isolated_partition_is_granted_from_the_top(files: HostFiles) -> None:
    with pytest.raises(FailedPreconditionError, match=r"no cpuset\.cpus\.exclusive"):
        plan.isolated(files, V2, frozenset({2, 3}))
    own = files.path(f"{V2.container}/cpuset.cpus.exclusive")
    own.parent.mkdir(parents=True)
    own.touch()
    assert [(each.path, each.value) for each in plan.isolated(files, V2, frozenset({2, 3}))] == [
        ("/cg/pods/cpuset.cpus.exclusive", "2-3"),
        ("/cg/pods/pod/cpuset.cpus.exclusive", "2-3"),
        ("/cg/pods/pod/c/cpuset.cpus.exclusive", "2-3"),
        ("/cg/pods/pod/c/cpuset.cpus.partition", "isolated"),
    ]


@pytest.mark.parametrize("below", [[], ["container"]])
def test_threads_on_a_containers_own_cpus(files: HostFiles, below: list[str]) -> None:
    """Below the cgroup that has the processes, from which the controllers are to come down."""
    above = [V2.container, *(f"{V2.container}/{name}" for name in below)]
    child = plan.Cgroups(True, f"{above[-1]}/cgroup-child", V2.pod, [*V2.ancestors, *above])
    assert replace(V2, processes=above[-1]).threads == child
    for directory in above:
        files.path(directory).mkdir(parents=True)
        files.path(f"{directory}/cgroup.subtree_control").touch()
    files.path(child.container).mkdir()
    for name in ("cgroup.type", "cpuset.cpus"):
        files.path(f"{child.container}/{name}").touch()
    for _ in range(2):
        plan.make_child(files, replace(V2, processes=above[-1]), frozenset({2, 3}))
    assert {files.read(f"{directory}/cgroup.subtree_control") for directory in above} == {"+cpu +cpuset"}
    assert files.read(f"{child.container}/cgroup.type") == "threaded"
    assert files.read(f"{child.container}/cpuset.cpus") == "2-3"


def test_sleep_and_frequency(files: HostFiles) -> None:
    assert plan.latency(frozenset({1}), "n/a") == [
        Holding("/sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us", "value", "n/a")
    ]
    assert plan.governor(files, frozenset({1}), "performance") == [
        Holding("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "value", "performance")
    ]
    with pytest.raises(FailedPreconditionError, match="CPU 1 has no frequency governor turbo, only: performance, powersave"):
        plan.governor(files, frozenset({1}), "turbo")
    with pytest.raises(FailedPreconditionError, match="only: none"):
        plan.governor(files, frozenset({7}), "performance")


def test_interrupts() -> None:
    affinity = Holding("/proc/irq/default_smp_affinity", "mask-without", "1-2")
    assert plan.no_interrupts(frozenset({1, 2}), "") == [affinity]
    assert plan.no_interrupts(frozenset({1, 2}), "/etc/i") == [affinity, Holding("/etc/i", "banned-cpus", "1-2")]


def test_siblings(files: HostFiles) -> None:
    assert plan.siblings(files, 1) == {1, 3}
    assert plan.siblings(files, 7) == {7}
