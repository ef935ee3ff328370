"""CPU annotations: which count, what they ask for, and what the spec gets of it."""

from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import cpu_tuning
from crid.oci.spec.cpu_tuning import NOTHING, CpuTuning, wanted

ALL = ("cpu-*", "irq-load-balancing.crio.io")


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({}, NOTHING),
        ({"example.com/other": "disable"}, NOTHING),
        ({"cpu-load-balancing.crio.io": "disable"}, CpuTuning(no_load_balancing=True)),
        ({"cpu-load-balancing.crio.io": "true"}, CpuTuning(no_load_balancing=True)),
        ({"cpu-load-balancing.crio.io": "enable"}, NOTHING),
        ({"cpu-quota.crio.io": "disable"}, CpuTuning(no_quota=True)),
        ({"cpu-quota.crio.io/app": "disable"}, CpuTuning(no_quota=True)),
        ({"cpu-quota.crio.io/side": "disable"}, NOTHING),
        ({"cpu-quota.crio.io": "disable", "cpu-quota.crio.io/app": "enable"}, NOTHING),
        ({"irq-load-balancing.crio.io": "disable"}, CpuTuning(no_interrupts=True)),
        ({"irq-load-balancing.crio.io": "housekeeping"}, CpuTuning(no_interrupts=True, housekeeping=True)),
        ({"cpu-c-states.crio.io": "disable"}, CpuTuning(latency="n/a")),
        ({"cpu-c-states.crio.io": "enable"}, CpuTuning(latency="0")),
        ({"cpu-c-states.crio.io": "max_latency:010"}, CpuTuning(latency="10")),
        ({"cpu-freq-governor.crio.io": "performance"}, CpuTuning(governor="performance")),
        ({"cpu-shared.crio.io/app": "enable"}, CpuTuning(shared=True)),
        ({"cpu-shared.crio.io": "enable"}, NOTHING),
    ],
)
def test_what_the_annotations_ask_for(pod: dict[str, str], expected: CpuTuning) -> None:
    assert wanted(ALL, pod, "app") == expected
    assert wanted((), pod, "app") == NOTHING
    assert expected.wanted == (expected != NOTHING)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpu-load-balancing.crio.io", "off"),
        ("cpu-quota.crio.io", "0"),
        ("irq-load-balancing.crio.io", "some"),
        ("cpu-c-states.crio.io", "max_latency:0"),
        ("cpu-c-states.crio.io", "max_latency:-1"),
        ("cpu-c-states.crio.io", "deep"),
        ("cpu-freq-governor.crio.io", "../../x"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"annotation {name}: "):
        wanted(ALL, {name: value}, "app")
    assert wanted((), {name: value}, "app") == NOTHING


@pytest.mark.parametrize(
    ("parent", "shares", "own"),
    [
        ("/kubepods/pod1", 2048, True),
        ("/kubepods/pod1", 0, True),
        ("/kubepods/pod1", 1500, False),
        ("/kubepods/burstable/pod1", 1024, False),
        ("kubepods-besteffort-pod1.slice", 1024, False),
    ],
)
def test_who_has_whole_cpus(parent: str, shares: int, own: bool) -> None:
    assert cpu_tuning.has_own_cpus(parent, cri.LinuxContainerResources(cpu_shares=shares)) is own


def test_what_a_container_cannot_have() -> None:
    none, some = cri.LinuxContainerResources(), cri.LinuxContainerResources(cpuset_cpus="2-3")
    cpu_tuning.check(CpuTuning(no_quota=True), none, frozenset())
    cpu_tuning.check(CpuTuning(latency="0"), some, frozenset())
    with pytest.raises(InvalidArgumentError, match="cpuset_cpus"):
        cpu_tuning.check(CpuTuning(latency="0"), none, frozenset())
    with pytest.raises(InvalidArgumentError, match="shared_cpuset"):
        cpu_tuning.check(CpuTuning(shared=True), some, frozenset())


def test_the_variables() -> None:
    own, shared = frozenset({2, 3, 4}), frozenset({0})
    tuning = CpuTuning(shared=True, no_interrupts=True, housekeeping=True)
    assert cpu_tuning.environment(tuning, own, shared, frozenset({2, 4, 9})) == [
        "OPENSHIFT_ISOLATED_CPUS=2-4",
        "OPENSHIFT_SHARED_CPUS=0",
        "OPENSHIFT_HOUSEKEEPING_CPUS=2,4",
    ]
    assert cpu_tuning.environment(NOTHING, own, shared, frozenset()) == []


@pytest.mark.parametrize(
    ("tuning", "before", "after"),
    [
        (NOTHING, {"quota": 1000}, {"quota": 1000}),
        (CpuTuning(no_quota=True), {"quota": 1000, "shares": 1024}, {"quota": -1, "shares": 1024}),
        (CpuTuning(no_quota=True), {}, {"quota": -1}),
        (CpuTuning(shared=True), {"cpus": "2-3"}, {"cpus": "0,2-3"}),
        (CpuTuning(shared=True), {"cpus": "2-3", "quota": 200000}, {"cpus": "0,2-3", "quota": 300000}),
        (
            CpuTuning(shared=True),
            {"cpus": "2", "quota": 10000, "period": 10000},
            {"cpus": "0,2", "quota": 20000, "period": 10000},
        ),
        (CpuTuning(shared=True), {"shares": 5}, {"shares": 5}),
    ],
)
def test_the_limits(tuning: CpuTuning, before: dict[str, Any], after: dict[str, Any]) -> None:
    cpu_tuning.limit(before, tuning, frozenset({0}))
    assert before == after


def test_where_commands_begin() -> None:
    own, shared = frozenset({2, 3}), frozenset({0, 1})
    assert cpu_tuning.exec_cpus(own, shared, NOTHING) == {2}
    assert cpu_tuning.exec_cpus(own, shared, CpuTuning(shared=True)) == {0}
    assert cpu_tuning.exec_cpus(frozenset(), shared, NOTHING) == frozenset()
