"""A seccomp profile as the program that the kernel runs: classic BPF over struct seccomp_data, seccomp(2).

Why: crun lets libseccomp compile the profile for every container, which takes three quarters of `crun create`, and what
comes out tests one call number after the other. crun takes a ready program instead, in an annotation. Here it is compiled
once for each set of capabilities, into a binary search over ranges of call numbers. runc does not know the annotation and
compiles `linux.seccomp`, which says the same; so whoever changes that afterwards must take the annotation away.

Layout of a program: the architecture selects a table (x32 shares its value with x86_64 and differs by a bit of the call
number), the table's tree finds the range, the range's leaf returns the outcome, after a test of arguments where the
profile has conditions. Calls of an architecture that the profile does not list kill the process. All jumps go forward.

Only what the default profile uses is compiled: the actions ALLOW and ERRNO, the comparisons EQ, NE and MASKED_EQ, the
x86 family. Anything else gives no program, and the runtime's own way is taken.
"""

import json
import struct
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant: struct sock_filter."""

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K
_JUMP, _JUMP_EQUAL, _JUMP_AT_LEAST = 0x05, 0x15, 0x35  # BPF_JMP with JA, JEQ and JGE
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_X32_BIT = 0x40000000
_AUDIT_X86_64, _AUDIT_I386 = 0xC000003E, 0x40000003  # linux/audit.h
_LONGEST_JUMP = 255
_EPERM = 1

Outcome = tuple[tuple[tuple[tuple[int, str, int, int], ...], int], ...]
"""What becomes of a call: (conditions, return value) pairs, the first that holds; the last has no conditions."""


class _UnsupportedError(Exception):
    """The profile uses something that this compiler leaves to libseccomp."""


def compile_program(profile: dict[str, Any]) -> bytes:
    """Return the program for `profile` (in pure OCI form) as an array of struct sock_filter, b"" if it must be left."""
    try:
        tables = {name: _tree(_ranges(profile, name)) for name in profile.get("architectures", ())}
        if "SCMP_ARCH_X86_64" not in tables or profile.get("flags"):
            return b""
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in _dispatch(tables))
    except _UnsupportedError:
        return b""


def _dispatch(tables: dict[str, list[Instruction]]) -> list[Instruction]:
    """Select the table by architecture and, on x86_64, by the bit that marks x32 calls."""
    kill: list[Instruction] = [(_RETURN, 0, 0, _KILL_PROCESS)]
    number: Instruction = (_LOAD, 0, 0, _NUMBER)
    wide = [number, *_branch(_JUMP_AT_LEAST, _X32_BIT, tables.get("SCMP_ARCH_X32", kill), tables["SCMP_ARCH_X86_64"])]
    narrow = [number, *tables["SCMP_ARCH_X86"]] if "SCMP_ARCH_X86" in tables else kill
    other = _branch(_JUMP_EQUAL, _AUDIT_I386, narrow, kill)
    return [(_LOAD, 0, 0, _ARCHITECTURE), *_branch(_JUMP_EQUAL, _AUDIT_X86_64, wide, other)]


def _ranges(profile: dict[str, Any], architecture: str) -> list[tuple[int, Outcome]]:
    """Return the outcomes for all call numbers of an architecture, as (first number, outcome), joined where equal."""
    numbers = _numbers().get(architecture)
    if numbers is None:
        raise _UnsupportedError(architecture)
    default: Outcome = (((), _value(profile["defaultAction"], profile.get("defaultErrnoRet"))),)
    outcomes: dict[int, Outcome] = {}
    # Entries without conditions end a call's chain, wherever in the profile they stand, as they do for libseccomp.
    for entry in sorted(profile["syscalls"], key=lambda item: not item.get("args")):
        rule = (tuple(map(_condition, entry.get("args", ()))), _value(entry["action"], entry.get("errnoRet")))
        for number in (numbers[name] for name in entry["names"] if name in numbers):
            chain = outcomes.get(number, ())
            if not chain or chain[-1][0]:
                outcomes[number] = (*chain, rule)
    ranges: list[tuple[int, Outcome]] = []
    for number, outcome in _filled(outcomes, default):
        if not ranges or ranges[-1][1] != outcome:
            ranges.append((number, outcome))
    return ranges


def _filled(outcomes: dict[int, Outcome], default: Outcome) -> list[tuple[int, Outcome]]:
    """Return (first number, outcome) in order from 0, with `default` in the gaps and after a chain that may run out."""
    filled: list[tuple[int, Outcome]] = []
    following = 0
    for number in sorted(outcomes):
        if number > following:
            filled.append((following, default))
        chain = outcomes[number]
        filled.append((number, chain + default if chain[-1][0] else chain))
        following = number + 1
    return [*filled, (following, default)]


def _tree(ranges: Sequence[tuple[int, Outcome]]) -> list[Instruction]:
    """Return code that finds the loaded call number's range by halving, and returns its outcome."""
    if len(ranges) == 1:
        return _leaf(ranges[0][1])
    middle = len(ranges) // 2
    return _branch(_JUMP_AT_LEAST, ranges[middle][0], _tree(ranges[middle:]), _tree(ranges[:middle]))


def _branch(test: int, constant: int, then: list[Instruction], otherwise: list[Instruction]) -> list[Instruction]:
    """Return `otherwise` and `then` behind a test; a conditional jump reaches 255 instructions, a plain one any number."""
    distance = len(otherwise)
    if distance <= _LONGEST_JUMP:
        return [(test, distance, 0, constant), *otherwise, *then]
    return [(test, 0, 1, constant), (_JUMP, 0, 0, distance), *otherwise, *then]


def _leaf(outcome: Outcome) -> list[Instruction]:
    """Return code for one outcome: each rule tests its conditions and returns, or goes on to the next rule."""
    code: list[Instruction] = []
    for conditions, value in outcome:
        rule: list[Instruction] = [(_RETURN, 0, 0, value)]
        for condition in reversed(conditions):
            rule = _test(condition, len(rule)) + rule
        code += rule
    return code


def _test(condition: tuple[int, str, int, int], rest: int) -> list[Instruction]:
    """Return code that goes on behind itself if the condition holds, and `rest` instructions further if not.

    An argument has 64 bits and the machine 32, so its halves are compared one by one; the high one lies behind.
    """
    index, comparison, mask, wanted = condition
    low = _ARGUMENTS + 8 * index
    high = low + 4
    if comparison == "SCMP_CMP_NE":
        return [
            (_LOAD, 0, 0, high),
            (_JUMP_EQUAL, 0, 2, wanted >> 32),
            (_LOAD, 0, 0, low),
            (_JUMP_EQUAL, rest, 0, wanted & 0xFFFFFFFF),
        ]
    return [
        (_LOAD, 0, 0, high),
        (_AND, 0, 0, mask >> 32),
        (_JUMP_EQUAL, 0, rest + 3, wanted >> 32),
        (_LOAD, 0, 0, low),
        (_AND, 0, 0, mask & 0xFFFFFFFF),
        (_JUMP_EQUAL, 0, rest, wanted & 0xFFFFFFFF),
    ]


def _condition(argument: dict[str, Any]) -> tuple[int, str, int, int]:
    """Return (argument's index, comparison, mask, value) for a condition of the profile."""
    comparison = argument["op"]
    if comparison == "SCMP_CMP_MASKED_EQ":
        return argument["index"], comparison, argument["value"], argument["valueTwo"]
    if comparison in ("SCMP_CMP_EQ", "SCMP_CMP_NE"):
        return argument["index"], comparison, 2**64 - 1, argument["value"]
    raise _UnsupportedError(comparison)


def _value(action: str, number: int | None) -> int:
    """Return what the program returns for an action."""
    if action == "SCMP_ACT_ALLOW":
        return _ALLOW
    if action == "SCMP_ACT_ERRNO":
        return _ERRNO | (_EPERM if number is None else number)
    raise _UnsupportedError(action)


def call_numbers(architecture: str) -> dict[str, int]:
    """Return the numbers of an architecture's calls by name, as of Linux 6.18; none for one that is not known here."""
    return _numbers().get(architecture, {})


@cache
def _numbers() -> dict[str, dict[str, int]]:
    """Return the call numbers by architecture and name, as of Linux 6.18. Numbers never change; newer calls get ENOSYS."""
    table: dict[str, dict[str, int]] = json.loads(
        resources.files(__package__).joinpath("syscalls.json").read_text(encoding="utf-8")
    )
    return table
