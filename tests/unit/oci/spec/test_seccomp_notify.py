import errno
from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import bpf, seccomp
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION
from crid.oci.spec.seccomp_notify import errors_of, notifying


def spec(**profile: Any) -> dict[str, Any]:
    whole = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [], **profile}
    return {"annotations": {"a": "b", PROGRAM_ANNOTATION: "compiled"}, "linux": {"seccomp": whole, "x": 1}}


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def reported(document: dict[str, Any] | None) -> list[str]:
    assert document is not None
    return [
        name
        for each in document["linux"]["seccomp"]["syscalls"]
        if each["action"] == "SCMP_ACT_NOTIFY"
        for name in each["names"]
    ]


def test_refusals_are_reported_and_the_rest_stays() -> None:
    before = spec(
        syscalls=[
            rule("ERRNO", "swapon", "write", errnoRet=13),
            rule("KILL", "swapoff"),
            rule("ERRNO", "clone3", errnoRet=errno.ENOSYS),
            rule("ERRNO", "socket", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]),
            rule("LOG", "acct"),
        ]
    )
    after = notifying(before, "/run/x", "x86_64")
    assert after is not None
    assert reported(after) == ["swapon", "swapoff"]
    profile = after["linux"]["seccomp"]
    assert profile["listenerPath"] == "/run/x"
    assert errors_of(profile["listenerMetadata"]) == {"swapon": 13}
    assert [(each["action"], each["names"]) for each in profile["syscalls"][:-1]] == [
        ("SCMP_ACT_ERRNO", ["write"]),  # the runtime's own
        ("SCMP_ACT_ERRNO", ["clone3"]),
        ("SCMP_ACT_ERRNO", ["socket"]),
        ("SCMP_ACT_LOG", ["acct"]),
    ]
    assert after["annotations"] == {"a": "b"}
    assert PROGRAM_ANNOTATION in before["annotations"]
    assert before["linux"]["seccomp"].keys() == {"defaultAction", "syscalls"}


def test_a_profile_that_names_what_is_allowed() -> None:
    after = notifying(spec(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("ALLOW", "read", "swapon")]), "/x", "x86_64")
    found = reported(after)
    assert {"swapoff", "mount", "ptrace"} <= set(found)
    assert not {"read", "swapon", "write", "execve"} & set(found)


def test_the_default_profile_keeps_what_programs_try_out_quiet() -> None:
    security = cri.LinuxContainerSecurityContext(seccomp=cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault))
    profile = seccomp.build(security, None, frozenset(), "x86_64", supported=True)
    assert profile is not None
    found = reported(notifying(spec(**profile), "/x", "x86_64"))
    assert {"swapon", "mount", "reboot", "bpf"} <= set(found)
    assert not {"clone3", "clone", "socket", "personality"} & set(found)


@pytest.mark.parametrize("profile", [None, {"listenerPath": "/other"}, {}])
def test_nothing_to_report(profile: dict[str, Any] | None) -> None:
    document = spec(**(profile or {}))
    if profile is None:
        del document["linux"]["seccomp"]
    assert notifying(document, "/x", "x86_64") is None


@pytest.mark.parametrize("metadata", ["[", "[1]", '{"a": "b"}', "1"])
def test_what_is_no_metadata(metadata: str) -> None:
    with pytest.raises(InvalidArgumentError):
        errors_of(metadata)


def test_a_machine_without_a_table() -> None:
    assert bpf.call_numbers("SCMP_ARCH_AARCH64") == {}
    assert notifying(spec(defaultAction="SCMP_ACT_ERRNO"), "/x", "aarch64") is None
