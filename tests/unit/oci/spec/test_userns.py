"""User namespaces: what may be asked for, and what becomes of a spec."""

from collections.abc import Callable

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.device import Device
from crid.model.idmap import IdMap, IdRange
from crid.oci.spec import userns
from crid.oci.spec.inputs import BuiltSpec

MAP = IdMap(IdRange(100_000, 65_536), IdRange(200_000, 65_536))
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
    userns.check_container(options(""), MAP)
    userns.check_container(options(ASKED), MAP)
    userns.check_container(options("userns_options { mode: NODE }"), None)
    for text, pod in ((ASKED, None), ("userns_options { mode: NODE }", MAP)):
        with pytest.raises(InvalidArgumentError, match="differs from the pod's"):
            userns.check_container(options(text), pod)


def test_volumes_have_the_pods_map_or_none() -> None:
    both = cri.Mount(uidMappings=[MAP.users.to_cri()], gidMappings=[MAP.groups.to_cri()])
    assert userns.check_volume(both, "m", MAP)
    assert not userns.check_volume(cri.Mount(), "m", MAP)
    for mount, field in (
        (cri.Mount(uidMappings=[MAP.users.to_cri()]), "gidMappings"),
        (cri.Mount(gidMappings=[MAP.groups.to_cri()]), "uidMappings"),
        (cri.Mount(uidMappings=[cri.IDMapping(length=5)], gidMappings=[MAP.groups.to_cri()]), "uidMappings"),
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
