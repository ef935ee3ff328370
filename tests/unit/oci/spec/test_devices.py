"""Devices."""

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.device import Device
from crid.oci.spec import devices

FUSE = Device("/dev/fuse", "c", 10, 229)
DISKS = (Device("/dev/disks/a", "b", 8, 0), Device("/dev/disks/sub/b", "b", 8, 1))
RESOLVED = {"/dev/fuse": (FUSE,), "/dev/disks": DISKS, "/dev/link": (Device("/dev/real", "c", 5, 5),)}
DENY_ALL = {"allow": False, "access": "rwm"}


def build(text: str, host: tuple[Device, ...] = ()) -> tuple[dict[str, dict[str, object]], list[dict[str, object]]]:
    nodes, rules = devices.build(text_format.Parse(text, cri.ContainerConfig()), RESOLVED, host)
    return {node["path"]: node for node in nodes}, rules


def test_nothing_beyond_the_runtimes_defaults() -> None:
    assert build("", (FUSE,)) == ({}, [DENY_ALL])


def test_a_device_at_another_path() -> None:
    nodes, rules = build("devices { container_path: '/dev/x' host_path: '/dev/fuse' permissions: 'rw' }")
    assert nodes["/dev/x"]["minor"] == 229
    assert rules == [DENY_ALL, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]


def test_a_directory_of_devices() -> None:
    nodes, rules = build("devices { container_path: '/dev/mine' host_path: '/dev/disks' }")
    assert list(nodes) == ["/dev/mine/a", "/dev/mine/sub/b"]
    assert [rule["access"] for rule in rules] == ["rwm"] * 3


def test_a_link_keeps_the_name_asked_for() -> None:
    nodes, _ = build("devices { container_path: '/dev/link' host_path: '/dev/link' }")
    assert list(nodes) == ["/dev/link"]


def test_privileged_containers_have_everything() -> None:
    nodes, rules = build("linux { security_context { privileged: true } }", (FUSE,))
    assert list(nodes) == ["/dev/fuse"]
    assert rules == [{"allow": True, "access": "rwm"}]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("host_path: '/dev/gone'", InvalidArgumentError, r"devices\[0\]\.host_path"),
        ("host_path: '/dev/fuse' container_path: 'x'", InvalidArgumentError, "container_path"),
        ("host_path: '/dev/fuse' permissions: 'rwx'", InvalidArgumentError, "permissions"),
    ],
)
def test_refusals(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        build(f"devices {{ {text} }}")
