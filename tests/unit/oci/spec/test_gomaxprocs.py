"""Who gets GOMAXPROCS, and how much."""

from typing import Any

import pytest

from crid.oci.spec.gomaxprocs import variable


def of(**changed: Any) -> str:
    given: dict[str, Any] = {
        "least": 4,
        "pod": {},
        "cgroup_parent": "/kubepods/burstable/pod1",
        "environment": ["A=1"],
        "shares": 512,
        "quota": 0,
        **changed,
    }
    return variable(given.pop("least"), given.pop("pod"), given.pop("cgroup_parent"), given.pop("environment"), **given)


@pytest.mark.parametrize(("shares", "procs"), [(0, 4), (2, 4), (2048, 4), (2049, 5), (10240, 20)])
def test_twice_the_cpus_that_the_shares_stand_for(shares: int, procs: int) -> None:
    """Rounded up, and at least what the configuration says."""
    assert of(shares=shares) == f"GOMAXPROCS={procs}"


@pytest.mark.parametrize(
    "changed",
    [
        {"least": 0},
        {"cgroup_parent": "/kubepods/pod1"},
        {"environment": ["GOMAXPROCS=1"]},
        {"quota": 1000},
        {"pod": {"skip-gomaxprocs.crio.io": "true"}},
    ],
)
def test_who_goes_without(changed: dict[str, Any]) -> None:
    assert of(**changed) == ""


@pytest.mark.parametrize(
    "changed",
    [
        {"cgroup_parent": "kubepods-besteffort-pod1.slice"},
        {"environment": ["MY_GOMAXPROCS=1"]},
        {"quota": -1},
        {"pod": {"skip-gomaxprocs.crio.io": "no"}},
    ],
)
def test_who_does_not(changed: dict[str, Any]) -> None:
    assert of(**changed) == "GOMAXPROCS=4"
