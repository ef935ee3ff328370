"""Limits in three vocabularies."""

from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.cri import nri_pb2 as nri
from crid.errors import InvalidArgumentError, UnimplementedError
from crid.nri.owners import Owners
from crid.nri.resources import adjust_resources, check_changeable, describe_limits, from_cri, to_cri

LIMITS: dict[str, Any] = {
    "memory": {"limit": 100, "reservation": 50, "swap": -1, "swappiness": 0, "disableOOMKiller": False},
    "cpu": {"shares": 2, "quota": -1, "period": 100000, "cpus": "0-1", "mems": "0"},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 5}],
    "unified": {"memory.high": "max"},
    "pids": {"limit": 9},
}


def test_the_ocis_limits_survive_the_way_there_and_back() -> None:
    found: dict[str, Any] = {}
    adjust_resources(found, describe_limits(LIMITS), Owners("c").claims_of("p"))
    assert found == LIMITS


def test_zero_is_a_limit_where_it_is_set_and_unset_ones_stay() -> None:
    found: dict[str, Any] = {"memory": {"limit": 1, "swap": 2}}
    wanted = nri.LinuxResources(memory=nri.LinuxMemory(limit=nri.OptionalInt64(value=0)))
    adjust_resources(found, wanted, Owners("c").claims_of("p"))
    assert found == {"memory": {"limit": 0, "swap": 2}}


def test_the_cris_limits_survive_the_way_there_and_back() -> None:
    asked = cri.LinuxContainerResources(
        cpu_period=1000,
        cpu_quota=-1,
        cpu_shares=3,
        memory_limit_in_bytes=4,
        memory_swap_limit_in_bytes=5,
        cpuset_cpus="0",
        cpuset_mems="0",
        hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=6)],
        unified={"a.b": "c"},
    )
    assert to_cri(from_cri(asked)) == asked
    assert from_cri(cri.LinuxContainerResources()) == nri.LinuxResources()


@pytest.mark.parametrize(
    "wanted",
    [
        nri.LinuxResources(pids=nri.LinuxPids(limit=1)),
        nri.LinuxResources(memory=nri.LinuxMemory(swappiness=nri.OptionalUInt64(value=0))),
        nri.LinuxResources(cpu=nri.LinuxCPU(realtime_period=nri.OptionalUInt64(value=1))),
        nri.LinuxResources(rdt_class=nri.OptionalString(value="x")),
    ],
)
def test_what_cannot_be_changed_later_is_refused(wanted: nri.LinuxResources) -> None:
    with pytest.raises(UnimplementedError):
        check_changeable(wanted)


def test_a_number_that_the_cri_cannot_hold_is_refused() -> None:
    wanted = nri.LinuxResources(cpu=nri.LinuxCPU(shares=nri.OptionalUInt64(value=2**63)))
    with pytest.raises(InvalidArgumentError):
        to_cri(wanted)
