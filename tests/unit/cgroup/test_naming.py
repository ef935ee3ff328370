import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cgroup import naming
from crid.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("parent", "driver", "expected"),
    [
        ("/kubepods/burstable/pod1", "cgroupfs", "/kubepods/burstable/pod1"),
        ("kubepods//pod1/", "cgroupfs", "/kubepods/pod1"),
        ("/", "cgroupfs", "/"),
        ("kubepods-burstable-pod1_2.slice", "systemd", "kubepods-burstable-pod1_2.slice"),
        ("/test.slice", "systemd", "test.slice"),
        ("/kubepods.slice/kubepods-pod1.slice", "systemd", "kubepods-pod1.slice"),
        ("-.slice", "systemd", "-.slice"),
    ],
)
def test_valid_parents(parent: str, driver: str, expected: str) -> None:
    assert naming.valid_parent(parent, driver) == expected


@pytest.mark.parametrize(
    ("parent", "driver"),
    [
        ("../kubepods", "cgroupfs"),
        ("/kubepods/../..", "cgroupfs"),
        ("/a/./b", "cgroupfs"),
        ("/a\nb", "cgroupfs"),
        ("/a\0b", "cgroupfs"),
        ("system.slice:crid:x", "cgroupfs"),
        ("/kubepods.slice", "cgroupfs"),
        ("/" + "x" * 256, "cgroupfs"),
        ("/x" * 3000, "cgroupfs"),
        ("", "systemd"),
        ("/kubepods/pod1", "systemd"),
        ("a--b.slice", "systemd"),
        ("-a.slice", "systemd"),
        ("a-.slice", "systemd"),
        (".slice", "systemd"),
        ("a b.slice", "systemd"),
        ("a:b.slice", "systemd"),
        ("x" * 250 + ".slice", "systemd"),
    ],
)
def test_parents_that_the_driver_cannot_have(parent: str, driver: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cgroup parent"):
        naming.valid_parent(parent, driver)


@pytest.mark.parametrize(
    ("parent", "driver", "cgroups_path", "directory"),
    [
        ("/kubepods/pod1", "cgroupfs", "/kubepods/pod1/crid-0a", "kubepods/pod1/crid-0a"),
        ("/", "cgroupfs", "/crid-0a", "crid-0a"),
        ("a-b.slice", "systemd", "a-b.slice:crid:0a", "a.slice/a-b.slice/crid-0a.scope"),
        ("-.slice", "systemd", "-.slice:crid:0a", "crid-0a.scope"),
    ],
)
def test_containers(parent: str, driver: str, cgroups_path: str, directory: str) -> None:
    assert naming.container_path(parent, "0a", driver) == cgroups_path
    assert naming.resolve(cgroups_path) == directory


@pytest.mark.parametrize(
    ("cgroups_path", "directory"),
    [
        ("/kubepods/pod1/", "kubepods/pod1"),
        ("kubepods", "kubepods"),
        ("/", ""),
        ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
        ("-.slice", ""),
        ("a.slice::conmon", "a.slice/conmon.scope"),
        ("a.slice:x:b.slice", "a.slice/b.slice"),
    ],
)
def test_resolve(cgroups_path: str, directory: str) -> None:
    assert naming.resolve(cgroups_path) == directory


@given(st.text(max_size=40), st.sampled_from(("cgroupfs", "systemd")))
def test_any_parent_is_refused_or_stays_below_the_root(parent: str, driver: str) -> None:
    try:
        path = naming.resolve(naming.container_path(parent, "0a", driver))
    except InvalidArgumentError:
        return
    parts = path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert parts[-1] in ("crid-0a", "crid-0a.scope")


@given(st.text(max_size=40), st.sampled_from(("cgroupfs", "systemd")))
def test_a_valid_parent_is_valid_again(parent: str, driver: str) -> None:
    try:
        valid = naming.valid_parent(parent, driver)
    except InvalidArgumentError:
        return
    assert naming.valid_parent(valid, driver) == valid
