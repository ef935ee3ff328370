"""Seccomp profiles."""

import json
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError
from crid.oci.spec import seccomp
from crid.oci.spec.capabilities import KNOWN

KINDS = cri.SecurityProfile.ProfileType
NONE: frozenset[str] = frozenset()
SIMPLE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]}


def security(text: str) -> cri.LinuxContainerSecurityContext:
    return text_format.Parse(text, cri.LinuxContainerSecurityContext())


def default(*capabilities: str, machine: str = "x86_64") -> dict[str, Any]:
    built = seccomp.build(
        security("seccomp { profile_type: RuntimeDefault }"), None, frozenset(capabilities), machine, supported=True
    )
    assert built is not None
    return built


def outcome(profile: dict[str, Any], name: str) -> set[tuple[str, int | None]]:
    return {(item["action"], item.get("errnoRet")) for item in profile["syscalls"] if name in item["names"]}


ALLOWED = {("SCMP_ACT_ALLOW", None)}
REFUSED = {("SCMP_ACT_ERRNO", 1)}


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("", KINDS.Unconfined, ""),
        ("seccomp {}", KINDS.RuntimeDefault, ""),
        ("seccomp { profile_type: Unconfined }", KINDS.Unconfined, ""),
        ("seccomp { profile_type: Localhost localhost_ref: '/p.json' }", KINDS.Localhost, "/p.json"),
        ("seccomp { profile_type: Localhost localhost_ref: 'localhost//p.json' }", KINDS.Localhost, "/p.json"),
        ("seccomp_profile_path: 'runtime/default'", KINDS.RuntimeDefault, ""),
        ("seccomp_profile_path: 'localhost//p.json'", KINDS.Localhost, "/p.json"),
        ("seccomp_profile_path: 'unconfined' seccomp {}", KINDS.RuntimeDefault, ""),
        ("privileged: true seccomp {}", KINDS.Unconfined, ""),
    ],
)
def test_which_profile(text: str, kind: int, path: str) -> None:
    assert seccomp.wanted(security(text)) == (kind, path)


@pytest.mark.parametrize("text", ["seccomp { profile_type: Localhost localhost_ref: 'p' }", "seccomp_profile_path: 'what'"])
def test_no_profile_at_all(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="seccomp"):
        seccomp.wanted(security(text))


def test_the_default_profile_without_capabilities() -> None:
    profile = default()
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert outcome(profile, "openat") == ALLOWED
    assert outcome(profile, "mount") == outcome(profile, "unshare") == outcome(profile, "bpf") == REFUSED
    assert outcome(profile, "keyctl") == REFUSED
    assert outcome(profile, "clone3") == set()
    assert outcome(profile, "a_call_of_the_future") == set()


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_ADMIN", "bpf"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYSLOG", "syslog"),
    ],
)
def test_capabilities_open_calls(capability: str, name: str) -> None:
    assert outcome(default(), name) != ALLOWED
    assert outcome(default(capability), name) == ALLOWED


def test_other_machines() -> None:
    assert default(machine="aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert outcome(default(machine="aarch64"), "arch_prctl") == set()
    assert "architectures" not in default(machine="riscv64")


@given(st.frozensets(st.sampled_from(KNOWN)))
def test_no_call_has_two_outcomes(capabilities: frozenset[str]) -> None:
    profile = default(*capabilities)
    seen: set[str] = set()
    for item in profile["syscalls"]:
        if not item.get("args"):
            assert not seen & set(item["names"])
            seen |= set(item["names"])
    assert not [item for item in profile["syscalls"] if item.get("args") and seen & set(item["names"])]


def localhost(profile: object) -> dict[str, Any] | None:
    text = profile if isinstance(profile, str) else json.dumps(profile)
    asked = security("seccomp { profile_type: Localhost localhost_ref: '/p.json' }")
    return seccomp.build(asked, text, NONE, "x86_64", supported=True)


def test_a_profile_in_oci_form_means_the_same() -> None:
    assert localhost(SIMPLE) == SIMPLE
    with_arguments = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 22,
                "args": [{"index": 0, "value": 40, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
            }
        ],
    }
    assert localhost(with_arguments) == with_arguments


def test_the_older_docker_form() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "chmod", "action": "SCMP_ACT_ERRNO", "errno": "EPERM"}]}
    built = localhost(profile)
    assert built is not None
    assert built["syscalls"] == [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]


@pytest.mark.parametrize(
    "profile",
    [
        "{",
        "[" * 100_000,
        "[]",
        {},
        {"defaultAction": "ALLOW"},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ["chmod"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "chmod", "action": "SCMP_ACT_ERRNO"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "args": [{"index": -1}]}]},
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}],
        },
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "includes": []}, 5]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_ERRNO", "errno": "EWHAT"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "archMap": 5},
    ],
)
def test_a_malformed_profile_is_refused_with_its_path(profile: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"/p\.json"):
        localhost(profile)


@pytest.mark.parametrize(
    ("text", "supported", "kind"), [(None, True, InvalidArgumentError), ("{}", False, FailedPreconditionError)]
)
def test_a_profile_that_cannot_be_had(text: str | None, supported: bool, kind: type[CridError]) -> None:
    asked = security("seccomp { profile_type: Localhost localhost_ref: '/p.json' }")
    with pytest.raises(kind, match=r"/p\.json"):
        seccomp.build(asked, text, NONE, "x86_64", supported=supported)


def test_a_kernel_without_seccomp_has_no_default_profile() -> None:
    assert seccomp.build(security("seccomp {}"), None, NONE, "x86_64", supported=False) is None
