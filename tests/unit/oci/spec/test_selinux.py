"""SELinux labels."""

import re

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import selinux

POD = "5" * 64


def labels(container: str, pod: str = "") -> selinux.Labels:
    return selinux.labels(
        text_format.Parse(container, cri.LinuxContainerSecurityContext()),
        text_format.Parse(pod, cri.LinuxSandboxSecurityContext()),
        POD,
    )


def test_a_pods_containers_share_a_level_of_their_own() -> None:
    level = selinux.pod_level(POD)
    assert labels("").process == f"system_u:system_r:container_t:{level}"
    assert labels("").mount == f"system_u:object_r:container_file_t:{level}"


def test_levels_differ_and_are_well_formed() -> None:
    """Two different categories, ascending: anything else would widen or narrow who may read."""
    levels = {selinux.pod_level(f"{number:064x}") for number in range(200)}
    assert len(levels) > 190
    for level in levels:
        found = re.fullmatch(r"s0:c(\d+),c(\d+)", level)
        assert found is not None
        assert 0 <= int(found[1]) < int(found[2]) < selinux.CATEGORIES


@pytest.mark.parametrize(
    ("container", "pod", "process", "mount"),
    [
        ("level: 's0:c4,c5'", "", "system_u:system_r:container_t:s0:c4,c5", "system_u:object_r:container_file_t:s0:c4,c5"),
        ("", "level: 's0'", "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0"),
        ("level: 's0:c1'", "level: 's0:c9'", "system_u:system_r:container_t:s0:c1", "system_u:object_r:container_file_t:s0:c1"),
        (
            "user: 'u' role: 'r' type: 'svirt_lxc_net_t' level: 's0-s0:c0.c1023'",
            "",
            "u:r:svirt_lxc_net_t:s0-s0:c0.c1023",
            "u:object_r:container_file_t:s0-s0:c0.c1023",
        ),
    ],
)
def test_options(container: str, pod: str, process: str, mount: str) -> None:
    """The container's count, else the pod's."""
    wrap = "selinux_options {{ {} }}".format
    found = labels(wrap(container) if container else "", wrap(pod) if pod else "")
    assert (found.process, found.mount) == (process, mount)


def test_a_privileged_container_has_no_categories_of_its_own() -> None:
    """Its files have the pod's, so that the pod's other containers may use them."""
    found = selinux.labels(cri.LinuxContainerSecurityContext(privileged=True), cri.LinuxSandboxSecurityContext(), "a")
    assert (found.process, found.process_type) == ("system_u:system_r:spc_t:s0", "spc_t")
    assert found.mount == f"system_u:object_r:container_file_t:{selinux.pod_level('a')}"


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("level: 'gibberish'", "level"),
        ("level: 's0:c1024'", "level"),
        ("level: 's0:c1,'", "level"),
        ("level: 's0,c1'", "level"),
        ("type: 'a:b'", "type"),
        ("user: 'a b'", "user"),
        ("role: '\"'", "role"),
    ],
)
def test_what_can_be_no_label_is_refused_by_name(option: str, field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"selinux_options.{field}"):
        labels(f"selinux_options {{ {option} }}")
