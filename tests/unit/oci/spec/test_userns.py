"""User namespaces: what may be asked for, and what becomes of a spec."""

from collections.abc import Callable

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.device import Device
from crid.model.idmap import IdMap, IdRange, IdRanges, Origin
from crid.oci.spec import userns
from crid.oci.spec.inputs import BuiltSpec
from crid.oci.spec.users import User

MAP = IdMap.of(IdRange(100_000, 65_536), IdRange(200_000, 65_536))
ASKED = "userns_options { uids { host_id: 100000 length: 65536 } gids { host_id: 200000 length: 65536 } }"
POD = f"linux {{ security_context {{ namespace_options {{ {ASKED} }} }} }}"


def options(text: str) -> cri.NamespaceOption:
    return text_format.Parse(text, cri.NamespaceOption())


@pytest.mark.parametrize("text", ["", "userns_options {}", "userns_options { mode: NODE }", "pid: NODE ipc: NODE"])
def test_the_hosts_user_namespace(text: str) -> None:
    assert userns.wanted(options(text)) is None


def test_one_of_the_pods_own() -> None:
    assert userns.wanted(options(ASKED)) == MAP
    assert userns.wanted(options(ASKED + " network: NODE pid: CONTAINER")) == MAP


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("userns_options { mode: CONTAINER }", "mode: must be POD or NODE"),
        ("userns_options { mode: TARGET }", "mode: must be POD or NODE"),
        ("userns_options { mode: NODE uids { length: 1 } gids { length: 1 } }", "NODE takes no"),
        ("userns_options { uids { length: 1 } uids { length: 1 } gids { length: 1 } }", r"\.uids: exactly one .* not 2"),
        ("userns_options { uids { length: 1 } }", r"\.gids: exactly one .* not 0"),
        ("userns_options { gids { length: 1 } }", r"\.uids: exactly one"),
        ("userns_options { uids { container_id: 1 length: 9 } gids { length: 9 } }", r"\.uids: id 0"),
        ("userns_options { uids { length: 9 } gids { length: 0 } }", r"\.gids: id 0"),
        ("userns_options { uids { host_id: 4294967290 length: 6 } gids { length: 1 } }", r"\.uids: goes beyond"),
        (f"{ASKED} pid: NODE", r"namespace_options\.pid: NODE"),
        (f"{ASKED} ipc: NODE", r"namespace_options\.ipc: NODE"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        userns.wanted(options(text))


def test_a_container_has_its_pods() -> None:
    host = "userns_options { mode: NODE }"
    for text, of_pod, pod in (("", ASKED, MAP), (ASKED, ASKED, MAP), (host, "", None)):
        userns.check_container(options(text), options(of_pod), pod)
    for text, of_pod, pod in ((ASKED, "", None), (host, ASKED, MAP)):
        with pytest.raises(InvalidArgumentError, match="differs from the pod's"):
            userns.check_container(options(text), options(of_pod), pod)


def test_a_container_repeats_what_its_pod_said_or_says_what_that_got() -> None:
    """A kubelet says NODE of both where the pod's annotation asks for a user namespace."""
    for text in ("", "userns_options { mode: NODE }"):
        userns.check_container(options(text), options(text), MAP)
        userns.check_container(options(ASKED), options(text), MAP)


SEVERAL = IdMap(
    IdRanges((IdRange(100_000, 1000, origin=Origin.ALLOCATED), IdRange(7, 1, 5000, Origin.HOST), IdRange(50, 1, 60))),
    IdRanges((IdRange(200_000, 1000, origin=Origin.ALLOCATED), IdRange(8, 1, 6000, Origin.HOST))),
)


def test_numbers_of_the_host_that_the_pod_asked_for_are_meant_as_such() -> None:
    asked = text_format.Parse(
        "run_as_user { value: 7 } run_as_group { value: 8 } supplemental_groups: [8, 9]", cri.LinuxContainerSecurityContext()
    )
    found = userns.inside(asked, SEVERAL)
    assert (found.run_as_user.value, found.run_as_group.value, list(found.supplemental_groups)) == (5000, 6000, [6000, 9])
    assert asked.run_as_user.value == 7
    for pod in (MAP, None):
        assert userns.inside(asked, pod) is asked
    asked.run_as_user.value = 100_001  # allocated or given ids are nobody's to ask for
    assert userns.inside(asked, SEVERAL).run_as_user.value == 100_001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run_as_user { value: 65536 }", "run_as_user: the pod's user namespace has no user 65536"),
        ("run_as_user { value: 1 } run_as_group { value: 65536 }", "run_as_group: .* no group 65536"),
        ("supplemental_groups: [1, 70000]", "supplemental_groups: .* no group 70000"),
    ],
)
def test_a_user_that_the_user_namespace_does_not_have(text: str, message: str) -> None:
    security = text_format.Parse(text, cri.LinuxContainerSecurityContext())
    with pytest.raises(InvalidArgumentError, match=message):
        userns.check_asked_user(security, MAP)
    userns.check_asked_user(security, None)


def test_nor_one_of_the_image() -> None:
    userns.check_user(User(65_535, 0, (0, 65_535)), MAP)
    userns.check_user(User(65_536, 0, (0,)), None)
    for user in (User(65_536, 0, ()), User(0, 65_536, ()), User(0, 0, (0, 65_536))):
        with pytest.raises(InvalidArgumentError, match=r"the container's .*: the pod's user namespace has no .* 65536"):
            userns.check_user(user, MAP)


def test_the_least_ids_of_the_host() -> None:
    userns.check_minimum(MAP, 100_000, 200_000)
    userns.check_minimum(MAP, -1, -1)
    with pytest.raises(InvalidArgumentError, match=r"userns_options\.uids: 100000 is below 100001"):
        userns.check_minimum(MAP, 100_001, -1)
    with pytest.raises(InvalidArgumentError, match="groups: 8 is below 9, the least"):
        userns.check_minimum(SEVERAL, 7, 9, ("users", "groups"))
    userns.check_minimum(IdMap(IdRanges(SEVERAL.users.ranges[:1]), IdRanges(())), 1 << 30, 1 << 30)  # crid's own choice


def test_volumes_have_the_pods_map_or_none() -> None:
    both = cri.Mount(uidMappings=MAP.users.to_cri(), gidMappings=MAP.groups.to_cri())
    assert userns.check_volume(both, "m", MAP)
    assert not userns.check_volume(cri.Mount(), "m", MAP)
    for mount, field in (
        (cri.Mount(uidMappings=MAP.users.to_cri()), "gidMappings"),
        (cri.Mount(gidMappings=MAP.groups.to_cri()), "uidMappings"),
        (cri.Mount(uidMappings=[cri.IDMapping(length=5)], gidMappings=MAP.groups.to_cri()), "uidMappings"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"m.{field}"):
            userns.check_volume(mount, "m", MAP)


def test_the_spec_says_the_map_and_binds_devices(make: Callable[..., BuiltSpec]) -> None:
    built = make(
        "devices { host_path: '/dev/a' container_path: '/dev/b' permissions: 'r' }",
        POD,
        devices={"/dev/a": (Device("/dev/a", "c", 9, 1),)},
    )
    linux = built.spec["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 200_000, "size": 65_536}]
    assert linux["devices"] == []
    assert {"allow": True, "type": "c", "major": 9, "minor": 1, "access": "r"} in linux["resources"]["devices"]
    assert built.spec["mounts"][-1] == {
        "destination": "/dev/b",
        "type": "bind",
        "source": "/dev/a",
        "options": ["bind", "nosuid", "noexec"],
    }
