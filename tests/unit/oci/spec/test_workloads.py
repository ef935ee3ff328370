"""Workloads: which pods are in one, what its containers get, and what an annotation may say otherwise."""

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec.workloads import CpuLimits, Workload, allowed_annotations, limited, of

MANAGEMENT = Workload(
    "management", "target.example/management", "resources.example", ("a",), CpuLimits(cpushares=20, cpuset="0-1")
)
OTHER = Workload("other", "target.example/other")
ASKED = cri.LinuxContainerResources(cpu_shares=512, cpu_quota=20000, memory_limit_in_bytes=1 << 26)


def test_the_annotation_alone_decides() -> None:
    """Its value is of no importance, and the first workload of the file goes first."""
    both = {"target.example/other": "x", "target.example/management": ""}
    assert of((MANAGEMENT, OTHER), both) is MANAGEMENT
    assert of((OTHER, MANAGEMENT), both) is OTHER
    assert of((MANAGEMENT,), {"target.example": ""}) is None


def test_defaults_replace_what_they_name_and_nothing_else() -> None:
    found = limited(MANAGEMENT, {}, "app", ASKED)
    assert (found.cpu_shares, found.cpuset_cpus, found.cpu_quota) == (20, "0-1", 20000)
    assert found.memory_limit_in_bytes == 1 << 26
    assert ASKED.cpu_shares == 512


def test_an_annotation_is_for_its_container_alone() -> None:
    pod = {"resources.example/app": '{"cpushares": 99, "cpuquota": 5000}'}
    found = limited(MANAGEMENT, pod, "app", ASKED)
    assert (found.cpu_shares, found.cpuset_cpus, found.cpu_quota) == (99, "0-1", 5000)
    assert limited(MANAGEMENT, pod, "side", ASKED).cpu_shares == 20


@pytest.mark.parametrize(
    ("limits", "period", "quota"),
    [
        ('{"cpulimit": 500}', 0, 50_000),
        ('{"cpulimit": 500, "cpuperiod": 10000}', 10_000, 5_000),
        ('{"cpulimit": 1}', 0, 1_000),
        ('{"cpulimit": 2000, "cpuquota": 1000}', 0, 200_000),
        ('{"cpulimit": 9223372036854775807}', 0, (1 << 44) - 1),
    ],
)
def test_thousandths_of_a_cpu_become_a_quota(limits: str, period: int, quota: int) -> None:
    """At least the kernel's millisecond; they go before a quota."""
    found = limited(OTHER, {"/app": limits}, "app", cri.LinuxContainerResources())
    assert (found.cpu_period, found.cpu_quota) == (period, quota)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20",
        "[]",
        "{",
        '{"cpus": 1}',
        '{"cpushares": "20"}',
        '{"cpushares": -1}',
        '{"cpushares": true}',
        '{"cpushares": 9223372036854775808}',
        '{"cpuset": 1}',
        '{"cpuset": "x"}',
        '{"cpuquota": 1}',
        '{"cpuperiod": 1}',
        '{"cpushares": null}',
    ],
)
def test_a_bad_annotation_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"annotation resources\.example/app: "):
        limited(MANAGEMENT, {"resources.example/app": text}, "app", ASKED)


@pytest.mark.parametrize(
    ("workload", "named"),
    [
        (Workload("w", ""), "activation_annotation"),
        (Workload("w", "a", limits=CpuLimits(cpuset="x")), r"resources\.cpuset"),
        (Workload("w", "a", limits=CpuLimits(cpuperiod=999)), r"resources\.cpuperiod"),
        (Workload("w", "a", limits=CpuLimits(cpuquota=1000, cpushares=2000)), r"resources\.cpuquota"),
        (Workload("w", "a", limits=CpuLimits(cpulimit=-1)), r"resources\.cpulimit"),
    ],
)
def test_a_bad_configuration_is_refused(workload: Workload, named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        workload.check()


def test_a_workloads_annotations_are_allowed_to_its_pods() -> None:
    assert allowed_annotations((MANAGEMENT,), {"target.example/management": ""}, ("h",)) == ("h", "a")
    assert allowed_annotations((MANAGEMENT,), {}, ("h",)) == ("h",)
