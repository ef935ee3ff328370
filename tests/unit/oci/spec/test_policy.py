"""What the configuration gives and allows: how its texts are read, and what comes of them in a spec."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from crid.errors import InvalidArgumentError
from crid.model.device import Device
from crid.oci.spec import policy
from crid.oci.spec.capabilities import KNOWN
from crid.oci.spec.inputs import BuiltSpec, SpecInputs
from crid.oci.spec.policy import UNLIMITED, AskedDevice, Policy, Ulimit
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION

FUSE = Device("/dev/fuse", "c", 10, 229)


@pytest.fixture
def under(make: Callable[..., BuiltSpec], inputs: SpecInputs) -> Callable[..., dict[str, Any]]:
    """Return a function that builds the ordinary container under a policy and gives its spec."""

    def build(rules: Policy, config: str = "", **changes: Any) -> dict[str, Any]:
        return make(config, host=replace(inputs.host, policy=rules), **changes).spec

    return build


def test_ulimits(under: Callable[..., dict[str, Any]]) -> None:
    parsed = policy.ulimits(["nofile=1024:2048", "core=-1", "nproc=5", "nproc=7"])
    assert parsed == (Ulimit("nofile", 1024, 2048), Ulimit("core", UNLIMITED, UNLIMITED), Ulimit("nproc", 7, 7))
    assert under(Policy(ulimits=parsed))["process"]["rlimits"][0] == {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048}
    assert "rlimits" not in under(Policy())["process"]


@pytest.mark.parametrize("text", ["nofile", "nofile=", "nofile=2:1", "nofile=-1:5", "files=1", "nofile=1:2:3", "nofile=-2"])
def test_what_is_no_ulimit(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        policy.ulimits([text])


def test_environment(under: Callable[..., dict[str, Any]]) -> None:
    """Below the image's (A=1) and the client's."""
    rules = Policy(environment=policy.environment(["A=0", "B=0", "C=a=b"]))
    environment = under(rules, "envs { key: 'B' value: '2' }")["process"]["env"]
    assert {"A=1", "B=2", "C=a=b"} <= set(environment)
    for text in ("A", "=b", "A=\0"):
        with pytest.raises(InvalidArgumentError):
            policy.environment([text])


def test_capabilities(under: Callable[..., dict[str, Any]]) -> None:
    assert policy.capability_names(["chown", "CAP_NET_RAW"]) == {"CAP_CHOWN", "CAP_NET_RAW"}
    assert policy.capability_names(["ALL"]) == set(KNOWN)
    with pytest.raises(InvalidArgumentError, match="CAP_FLY"):
        policy.capability_names(["CAP_FLY"])
    bounding = under(Policy(capabilities=frozenset({"CAP_NET_RAW"})))["process"]["capabilities"]["bounding"]
    assert bounding == ["CAP_NET_RAW"]


def test_sysctls() -> None:
    assert policy.sysctls(["net.ipv4.ping_group_range=0 0"]) == {"net.ipv4.ping_group_range": "0 0"}
    for text in ("a", "a=", "=1", "a b=1"):
        with pytest.raises(InvalidArgumentError):
            policy.sysctls([text])


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("1048576", 1 << 20), ("12MiB", 12 << 20), ("500 KB", 500000), ("1g", 10**9)]
)
def test_sizes(text: str, size: int) -> None:
    assert policy.size(text) == size


def test_a_memory_limit_that_nothing_can_start_in_is_refused(under: Callable[..., dict[str, Any]]) -> None:
    rules = Policy(min_memory=policy.size("12MiB"))
    with pytest.raises(InvalidArgumentError, match="memory_limit_in_bytes"):
        under(rules, "linux { resources { memory_limit_in_bytes: 12582911 } }")
    with pytest.raises(InvalidArgumentError):
        policy.size("much")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("/dev/fuse", AskedDevice("/dev/fuse", "/dev/fuse", "rwm")),
        ("/dev/fuse:rw", AskedDevice("/dev/fuse", "/dev/fuse", "rw")),
        (" /dev/fuse:/dev/x:r", AskedDevice("/dev/fuse", "/dev/x", "r")),
    ],
)
def test_devices(text: str, asked: AskedDevice) -> None:
    assert policy.device(text) == asked


@pytest.mark.parametrize(
    "text", ["fuse", "/etc/passwd", "/dev/../etc/x", "/dev/fuse:", "/dev/fuse:/dev/a:x", "/dev/a:/dev/b:r:w"]
)
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        policy.device(text)


def test_additional_devices(under: Callable[..., dict[str, Any]]) -> None:
    """Every container gets them, with a rule that allows their use."""
    spec = under(Policy(additional_devices=((AskedDevice("/dev/fuse", "/dev/f", "rw"), FUSE),)))
    assert [node["path"] for node in spec["linux"]["devices"]] == ["/dev/f"]
    assert {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"} in spec["linux"]["resources"]["devices"]


def test_privileged_without_host_devices(under: Callable[..., dict[str, Any]]) -> None:
    """Neither the nodes nor the right to make them."""
    privileged = "linux { security_context { privileged: true } }"
    spec = under(Policy(privileged_without_host_devices=True), privileged, pod=privileged)
    assert spec["linux"]["devices"] == []
    assert spec["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert under(Policy(), privileged)["linux"]["devices"]


def test_the_seccomp_program_is_nobodys_to_set() -> None:
    """It would replace the profile."""
    entry = {PROGRAM_ANNOTATION: "AAAA"}
    assert policy.allowed_annotations(["*"], entry, entry, entry) == {}


def test_another_default_seccomp_profile(under: Callable[..., dict[str, Any]]) -> None:
    asked = "linux { security_context { seccomp { profile_type: RuntimeDefault } } }"
    spec = under(Policy(seccomp_default='{"defaultAction": "SCMP_ACT_LOG"}'), asked)
    assert spec["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_LOG"
    assert PROGRAM_ANNOTATION not in spec["annotations"]
