"""Where a pod and its containers are accounted, by either driver."""

import pytest

from crid.errors import InvalidArgumentError
from crid.lifecycle.cgroups import PodCgroups
from tests.unit.lifecycle.world import FakeHierarchy, World


@pytest.mark.parametrize(("driver", "parent"), [("cgroupfs", "/crid/x"), ("systemd", "crid-x.slice")])
def test_the_clients_parent_or_one_of_our_own(driver: str, parent: str) -> None:
    cgroups = PodCgroups(FakeHierarchy(), driver)
    assert cgroups.parent("", "x") == parent
    assert cgroups.parent("asked.slice", "x") == "asked.slice"


@pytest.mark.parametrize(("driver", "wrong"), [("cgroupfs", "a.slice"), ("systemd", "/kubepods/pod1")])
def test_a_parent_of_the_other_driver_is_refused(driver: str, wrong: str) -> None:
    cgroups = PodCgroups(FakeHierarchy(), driver)
    cgroups.check_parent("")
    with pytest.raises(InvalidArgumentError, match=wrong):
        cgroups.check_parent(wrong)


async def test_a_pods_accounting_is_its_parents(world: World) -> None:
    pod = await world.pod()
    cpu = world.parts.cgroups.sandbox_stats(pod.metadata).cpu
    assert cpu is not None
    assert world.parts.cgroups.container_path(pod.metadata, "c") == f"/crid/{pod.id}/crid-c"
