"""What a container's scope is told, in the runtimes' GVariant texts."""

import pytest

from crid.oci.spec.systemd import GRACE_PERIOD_ANNOTATION, properties

SCOPE = "kubepods-pod1.slice:crid:abc"


def test_a_scope_is_stopped_before_the_daemon_and_its_monitor() -> None:
    found = properties(SCOPE, {GRACE_PERIOD_ANNOTATION: "30"}, "crid-conmon-abc.scope")
    assert found == {
        "org.systemd.property.DefaultDependencies": "true",
        "org.systemd.property.After": "['crid.service', 'crid-conmon-abc.scope']",
        "org.systemd.property.TimeoutStopUSec": "uint64 30000000",
    }


@pytest.mark.parametrize("grace", ["", "-1", "1.5", "soon", "٣", "9" * 30])
def test_without_a_grace_period_systemds_own_counts(grace: str) -> None:
    found = properties(SCOPE, {GRACE_PERIOD_ANNOTATION: grace})
    assert found == {
        "org.systemd.property.DefaultDependencies": "true",
        "org.systemd.property.After": "['crid.service']",
    }


def test_on_cgroup_v1_a_scope_has_the_devices_controller_from_its_start() -> None:
    found = properties(SCOPE, {}, cgroup_v2=False)
    assert found["org.systemd.property.DelegateControllers"] == "['devices']"
    assert "org.systemd.property.DelegateControllers" not in properties(SCOPE, {}, cgroup_v2=True)


def test_other_cgroups_are_no_units() -> None:
    assert properties("/kubepods/pod1/crid-abc", {GRACE_PERIOD_ANNOTATION: "30"}) == {}
