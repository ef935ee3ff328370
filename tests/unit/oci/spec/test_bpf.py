"""Seccomp programs: run by an interpreter here, and compared call by call with what libseccomp makes of the profile."""

import ctypes
import os
import struct
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.oci.spec import bpf, seccomp
from crid.oci.spec.capabilities import KNOWN
from crid.oci.spec.inputs import BuiltSpec

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x50000, 0x80000000
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32_BIT = 0x40000000
ENOSYS = ERRNO | 38


def evaluate(program: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Run a program as the kernel would (linux/filter.h) and return its result."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *padded)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, counter = 0, 0
    while True:
        code, if_true, if_false, constant = instructions[counter]
        counter += 1
        if code == 0x20:
            [accumulator] = struct.unpack_from("=I", data, constant)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return int(constant)
        elif code == 0x05:
            counter += constant
        else:
            holds = {0x15: accumulator == constant, 0x25: accumulator > constant, 0x35: accumulator >= constant}[code]
            counter += if_true if holds else if_false


def default(capabilities: Iterable[str] = ()) -> dict[str, Any]:
    asked = cri.LinuxContainerSecurityContext(seccomp=cri.SecurityProfile())
    profile = seccomp.build(asked, None, frozenset(capabilities), "x86_64", supported=True)
    assert profile is not None
    return profile


def number(name: str, architecture: str = "SCMP_ARCH_X86_64") -> int:
    return bpf._numbers()[architecture][name]


def test_outcomes() -> None:
    program = bpf.compile_program(default())
    assert evaluate(program, X86_64, number("read")) == ALLOW
    assert evaluate(program, X86_64, number("mount")) == ERRNO | 1
    assert evaluate(program, X86_64, number("clone3")) == ENOSYS
    assert evaluate(program, X86_64, 5000) == evaluate(program, X86_64, 0xFFFFFFFF) == ENOSYS
    assert evaluate(program, I386, number("read", "SCMP_ARCH_X86")) == ALLOW
    assert evaluate(program, X86_64, number("read", "SCMP_ARCH_X32")) == ALLOW
    assert evaluate(program, AARCH64, 0) == KILL


def test_arguments() -> None:
    program = bpf.compile_program(default())
    socket, clone, personality = number("socket"), number("clone"), number("personality")
    assert evaluate(program, X86_64, socket, (2,)) == ALLOW
    assert evaluate(program, X86_64, socket, (40,)) == ERRNO | 1
    assert evaluate(program, X86_64, socket, (40 | 1 << 32,)) == ALLOW
    assert evaluate(program, X86_64, clone, (0x11,)) == ALLOW
    assert evaluate(program, X86_64, clone, (0x10000000,)) == ENOSYS
    assert evaluate(program, X86_64, personality, (0xFFFFFFFF,)) == ALLOW
    assert evaluate(program, X86_64, personality, (0x40000,)) == ENOSYS


def test_an_architecture_that_is_not_listed_kills() -> None:
    program = bpf.compile_program({**default(), "architectures": ["SCMP_ARCH_X86_64"]})
    assert evaluate(program, X86_64, 0) == ALLOW
    assert evaluate(program, I386, 3) == KILL
    assert evaluate(program, X86_64, X32_BIT) == KILL


def test_conditions_are_joined_by_and() -> None:
    arguments = [
        {"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 2, "valueTwo": 0, "op": "SCMP_CMP_NE"},
    ]
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": arguments}],
    }
    program = bpf.compile_program(profile)
    found = {(a, b): evaluate(program, X86_64, 0, (a, b)) for a in (0, 1) for b in (2, 3)}
    assert found == {(0, 2): ALLOW, (0, 3): ALLOW, (1, 2): ALLOW, (1, 3): ERRNO | 1}


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["SCMP_ARCH_AARCH64"]},
        {"architectures": ["SCMP_ARCH_X86"]},
        {"architectures": []},
        {"flags": ["SECCOMP_FILTER_FLAG_LOG"]},
        {"defaultAction": "SCMP_ACT_LOG"},
        {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]},
        {
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GT"}]}
            ]
        },
    ],
)
def test_what_is_left_to_libseccomp(change: dict[str, Any]) -> None:
    assert bpf.compile_program({**default(), **change}) == b""


def test_jumps_reach() -> None:
    """A profile whose neighbours always differ makes the largest tree; each call must still find its own outcome."""
    names = sorted(bpf._numbers()["SCMP_ARCH_X86"], key=bpf._numbers()["SCMP_ARCH_X86"].__getitem__)
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": index} for index, name in enumerate(names)],
    }
    program = bpf.compile_program(profile)
    for index, name in enumerate(names):
        assert evaluate(program, I386, number(name, "SCMP_ARCH_X86")) == ERRNO | index


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


@cache
def library() -> Any:
    try:
        loaded = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        pytest.skip("libseccomp is not installed")
    loaded.seccomp_init.restype = ctypes.c_void_p
    return loaded


def by_libseccomp(profile: dict[str, Any]) -> tuple[bytes, Callable[[str], bool]]:
    """Compile a profile as crun does. Also return which names this libseccomp knows."""
    scmp = library()
    operators = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
    actions = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO}
    context = ctypes.c_void_p(scmp.seccomp_init(ctypes.c_uint32(ERRNO | profile["defaultErrnoRet"])))
    assert scmp.seccomp_arch_add(context, ctypes.c_uint32(I386)) == 0
    assert scmp.seccomp_arch_add(context, ctypes.c_uint32(0x4000003E)) == 0
    for entry in profile["syscalls"]:
        conditions = [Argument(x["index"], operators[x["op"]], x["value"], x["valueTwo"]) for x in entry.get("args", [])]
        for name in entry["names"]:
            call = scmp.seccomp_syscall_resolve_name(name.encode())
            if call == -1:
                continue
            value = ctypes.c_uint32(actions[entry["action"]] | entry.get("errnoRet", 0))
            array = (Argument * len(conditions))(*conditions)
            assert scmp.seccomp_rule_add_array(context, value, call, len(conditions), array) == 0, name
    descriptor = os.memfd_create("filter")
    try:
        assert scmp.seccomp_export_bpf(context, descriptor) == 0
        program = os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)
        scmp.seccomp_release(context)
    return program, lambda name: scmp.seccomp_syscall_resolve_name(name.encode()) != -1


@settings(max_examples=5)
@given(st.sets(st.sampled_from(KNOWN)))
def test_libseccomp_agrees_on_every_call(capabilities: set[str]) -> None:
    profile = default(capabilities)
    ours = bpf.compile_program(profile)
    theirs, known = by_libseccomp(profile)
    tested = {
        "socket": (2, 16, 38, 40),
        "personality": (0, 8, 9, 0x20000, 0x20008, 0xFFFFFFFF),
        "clone": (0x11, 1 << 28, 0x20011),
    }
    for architecture, audit in (("SCMP_ARCH_X86_64", X86_64), ("SCMP_ARCH_X86", I386), ("SCMP_ARCH_X32", X86_64)):
        names = {value: name for name, value in bpf._numbers()[architecture].items()}
        base = X32_BIT if architecture == "SCMP_ARCH_X32" else 0
        for call in range(base, base + 600):
            name = names.get(call, "")
            if name and not known(name):
                continue
            for argument in tested.get(name, (0,)):
                found = evaluate(ours, audit, call, (argument,))
                assert found == evaluate(theirs, audit, call, (argument,)), f"{architecture} {name} {call} {argument:#x}"


def test_only_the_default_profile_comes_as_a_program(make: Callable[..., BuiltSpec]) -> None:
    annotation = seccomp.PROGRAM_ANNOTATION
    assert annotation not in make().spec["annotations"]
    assert annotation in make("linux { security_context { seccomp { profile_type: RuntimeDefault } } }").spec["annotations"]
    localhost = "linux { security_context { seccomp { profile_type: Localhost localhost_ref: '/p' } } }"
    built = make(localhost, localhost_seccomp='{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert annotation not in built.spec["annotations"]


def test_nothing_where_there_is_no_seccomp_or_no_table() -> None:
    asked = text_format.Parse("seccomp {}", cri.LinuxContainerSecurityContext())
    assert seccomp.program_annotation(asked, frozenset(), "x86_64", supported=False) == {}
    assert seccomp.program_annotation(asked, frozenset(), "aarch64", supported=True) == {}
