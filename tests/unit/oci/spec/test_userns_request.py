"""Who says which user namespace a pod gets, and what an annotation may say."""

from typing import Any

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.idmap import ID_LIMIT, IdMap, IdRange, IdRanges, Origin
from crid.oci.spec import userns_request
from crid.oci.spec.asked import OLDER, USERNS_MODE
from crid.oci.spec.policy import Policy
from crid.oci.spec.userns_request import UserNamespaceRequest, requested

GIVEN = "userns_options { uids { host_id: 100000 length: 9 } gids { host_id: 200000 length: 9 } }"
DEFAULT = IdMap.of(IdRange(300_000, 10), IdRange(400_000, 10))


def pod(mode: str = "", options: str = "", security: str = "", name: str = USERNS_MODE) -> cri.PodSandboxConfig:
    text = f"linux {{ security_context {{ {security} namespace_options {{ {options} }} }} }}"
    config = text_format.Parse(text, cri.PodSandboxConfig())
    if mode:
        config.annotations[name] = mode
    return config


def rules(**more: Any) -> Policy:
    return Policy(allowed_annotations=(USERNS_MODE,), **more)


def asked(mode: str, security: str = "", **more: Any) -> UserNamespaceRequest:
    found = requested(pod(mode, security=security), rules(**more))
    assert found is not None
    return found


def kernel(idmap: IdMap) -> tuple[str, str]:
    return idmap.users.to_kernel(), idmap.groups.to_kernel()


def test_nobody_asks() -> None:
    assert requested(pod(), rules()) is None
    assert requested(pod("auto"), Policy()) is None  # not allowed
    assert requested(pod("auto", name=OLDER[USERNS_MODE]), rules()) is not None


def test_the_cri_asks() -> None:
    found = requested(pod(options=GIVEN), rules(default_user_namespace=DEFAULT))
    assert found is not None
    assert (found.source, found.size) == ("security_context.namespace_options.userns_options", 0)
    assert kernel(found.fixed) == ("0 100000 9", "0 200000 9")
    with pytest.raises(InvalidArgumentError, match=r"userns_options\.uids: 100000 is below"):
        requested(pod(options=GIVEN), rules(minimum_mappable_uid=100_001))


@pytest.mark.parametrize(
    ("options", "mapped"),
    [
        ("", True),
        ("network: NODE", True),
        ("userns_options {}", True),
        ("userns_options { mode: NODE }", False),
        ("pid: NODE", False),
        ("ipc: NODE", False),
    ],
)
def test_the_default_is_for_pods_that_say_nothing_else(options: str, mapped: bool) -> None:
    found = requested(pod(options=options), rules(default_user_namespace=DEFAULT))
    assert (found.fixed if found else None) == (DEFAULT if mapped else None)


def test_two_who_ask_contradict_each_other() -> None:
    with pytest.raises(InvalidArgumentError, match=r"annotation userns-mode.*userns_options has mappings as well"):
        requested(pod("auto", GIVEN), rules())
    found = requested(pod("auto", "userns_options { mode: NODE }"), rules())  # so kubelets say of every pod
    assert found is not None
    assert found.size == 65536
    for kind in ("pid", "ipc"):
        with pytest.raises(InvalidArgumentError, match=f"annotation userns-mode.*{kind} NODE"):
            requested(pod("auto", f"{kind}: NODE"), rules())


USER = "run_as_user { value: 1234 } run_as_group { value: 5678 }"
GROUPS = "supplemental_groups: [2000, 5678, 0, 2000]"
ROOT = "run_as_user { value: 0 }"


@pytest.mark.parametrize(
    ("mode", "security", "size", "users", "groups"),
    [
        ("auto", "", 65536, "", ""),
        ("auto:size=1000", "", 1000, "", ""),
        ("auto", USER, 65536, "", ""),
        ("auto:keep-id=false", f"{USER} {GROUPS}", 65536, "", "2000 2000 1\n5678 5678 1"),
        ("auto:keep-id=true", f"{USER} {GROUPS}", 65536, "1234 1234 1", "5678 5678 1\n2000 2000 1"),
        ("auto:map-to-root=true;size=5", f"{USER} {GROUPS}", 5, "0 1234 1", "0 5678 1\n2000 2000 1"),
        ("auto:keep-id=true", "", 65536, "", ""),
        ("auto:uidmapping=0:100:5,9:200:1;gidmapping=7:8:9", ROOT, 65536, "0 100 5\n9 200 1", "7 8 9"),
        ("private:uidmapping=0:100:5;gidmapping=0:8:9", ROOT, 0, "0 100 5", "0 8 9"),
        ("private:uidmapping=0:100:5", ROOT, 0, "0 100 5", "0 100 5"),
        ("private:gidmapping=0:100:5", f"{ROOT} supplemental_groups: [101, 9, 8]", 0, "0 100 5", "0 100 5\n5 9 1\n6 8 1"),
    ],
)
def test_what_the_annotation_says(mode: str, security: str, size: int, users: str, groups: str) -> None:
    found = asked(mode, security)
    assert (found.size, *kernel(found.fixed)) == (size, users, groups)
    assert {each.origin for each in (*found.fixed.users.ranges, *found.fixed.groups.ranges)} <= {Origin.HOST}
    assert found.source == "annotation userns-mode.crio.io"


@pytest.mark.parametrize("mode", ["private", "private:uidmapping="])
def test_private_without_mappings_is_the_default(mode: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"annotation userns-mode\.crio\.io: "):
        asked(mode, ROOT)
    assert asked("private", default_user_namespace=DEFAULT).fixed == DEFAULT


@pytest.mark.parametrize(
    "mode",
    [
        "host",
        "Auto",
        "auto:",
        "auto:size",
        "auto:size=",
        "auto:size=0",
        "auto:size=-1",
        "auto:size=1;size=1",
        f"auto:size={ID_LIMIT + 1}",
        "auto:size=9;",
        "auto:keep-id=yes",
        "auto:keep-id=true;map-to-root=true",
        "auto:other=1",
        "private:size=5",
        "private:keep-id=true",
        "auto:uidmapping=0:1",
        "auto:uidmapping=0:1:2:3",
        "auto:uidmapping=a:1:2",
        "auto:uidmapping=-1:1:2",
        "auto:uidmapping=0:1:0",
        "auto:uidmapping=0:4294967290:9",
        "auto:uidmapping=4294967290:0:9",
        "auto:uidmapping=0:1:99999999999",
        "auto:uidmapping=0:1:5,4:100:2",
        "auto:gidmapping=0:1:5,10:5:2",
        "private:uidmapping=1:1:5",
        "private:gidmapping=" + ",".join(f"{number}:{number}:1" for number in range(101)),
        "x" * 100_000,
    ],
)
def test_what_means_nothing(mode: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^annotation userns-mode\.crio\.io: ") as caught:
        asked(mode, ROOT)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("security", "least", "message"),
    [
        ("", -1, "want a pod with run_as_user"),
        ("run_as_user { value: 1000 }", -1, "user 1000: no minimum_mappable_uid"),
        ("run_as_user { value: 1000 }", 1001, "user 1000: is below minimum_mappable_uid 1001"),
        ("run_as_user { value: 1000 }", 501, "500 is below 501"),
        (ROOT, 501, "500 is below 501"),
    ],
)
def test_who_may_name_ids_of_the_host(security: str, least: int, message: str) -> None:
    for mode in ("auto:uidmapping=0:500:10", "private:uidmapping=0:500:10"):
        with pytest.raises(InvalidArgumentError, match=f"annotation userns-mode.*: .*{message}"):
            asked(mode, security, minimum_mappable_uid=least)
        asked(mode, ROOT, minimum_mappable_uid=500)
    with pytest.raises(InvalidArgumentError, match=r"annotation userns-mode.*: 1234 is below"):
        asked("auto:keep-id=true", USER, minimum_mappable_uid=1235)


def test_a_map_of_the_configuration() -> None:
    names = ("users", "groups")
    userns_request.check_map(DEFAULT, names)
    text = userns_request.id_ranges("0:5:6,9:11:1")
    assert text == IdRanges((IdRange(5, 6), IdRange(11, 1, 9)))
    assert {each.origin for each in text.ranges} == {Origin.GIVEN}
    with pytest.raises(InvalidArgumentError, match="groups: id 0 of the container is not mapped"):
        userns_request.check_map(IdMap(text, IdRanges((IdRange(1, 1, 1),))), names)
    with pytest.raises(InvalidArgumentError, match="is not INSIDE:HOST:LENGTH"):
        userns_request.id_ranges("0:5")
