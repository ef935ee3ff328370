"""The seccomp filter of a container: which profile applies, and what of it does, seccomp(2).

Profiles come in the form that Docker, Podman and CRI-O share: the runtime-spec's `linux.seccomp` with two additions.
`archMap` names the sub-architectures for each architecture, and an entry under `includes` or `excludes` counts or not
depending on the container's capabilities and the machine. `compile_profile` evaluates those and leaves pure OCI form.
A profile in pure OCI form passes through it unchanged in meaning.

The default profile is data beside this file. A call that it does not know fails with ENOSYS, so that programs fall back
as on an older kernel; one that it knows and refuses fails with EPERM. Calls that need a capability are open to who has
it. It follows Docker's, which keeps new user namespaces (`unshare`, `clone`) from containers without CAP_SYS_ADMIN.

Which one: the field `seccomp`, else the older `seccomp_profile_path`; neither means no filter (so the CRI has it; the
kubelet says RuntimeDefault expressly), unless an annotation that the handler allows asks for one. A privileged container has
no filter, unless the configuration has one for it.
"""

import base64
import errno
import json
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.oci.spec import bpf

Profile = dict[str, Any]

PROGRAM_ANNOTATION = "run.oci.seccomp_bpf_data"
"""crun(1): the filter as a ready program, in base64. Used instead of `linux.seccomp`, which must say the same."""

ACTIONS = frozenset(
    f"SCMP_ACT_{name}" for name in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
)
_ERRNO_ACTIONS = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_PASSED_ON = ("flags", "listenerPath", "listenerMetadata")
_LOCALHOST = "localhost/"
_ARGUMENTS = 6
"""How many a system call has, syscall(2)."""

ANNOTATION = "seccomp-profile.crio.io"
"""CRI-O's name of the annotation (crid.oci.spec.asked)."""

_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
"""`includes.arches` uses Go's names for machines."""


def wanted(
    security: cri.LinuxContainerSecurityContext, asked: str = ""
) -> tuple["cri.SecurityProfile.ProfileType.ValueType", str]:
    """Return the type of profile that applies, and for Localhost the absolute path of its file on the host.

    `asked` is what an annotation says: it counts where the config asks for no filter, so it can only take away.
    """
    kinds = cri.SecurityProfile.ProfileType
    if security.privileged:
        return kinds.Unconfined, ""
    if security.HasField("seccomp"):
        kind, path = security.seccomp.profile_type, security.seccomp.localhost_ref
        if kind not in kinds.values():
            raise InvalidArgumentError(f"security_context.seccomp.profile_type: unknown type {kind}")
    else:
        kind, path = _spelled(security.seccomp_profile_path, "security_context.seccomp_profile_path")
    if kind == kinds.Unconfined:
        kind, path = _spelled(asked, f"annotation {ANNOTATION}")
    if kind != kinds.Localhost:
        return kind, ""
    path = path.removeprefix(_LOCALHOST)
    if not path.startswith("/"):
        raise InvalidArgumentError(f"security_context.seccomp.localhost_ref: {path[:128]!r} is not an absolute path")
    return kind, path


def build(
    security: cri.LinuxContainerSecurityContext,
    localhost: str | None,
    bounding: frozenset[str],
    machine: str,
    *,
    supported: bool,
    default: str | None = None,
    privileged: str | None = None,
    asked: str = "",
) -> Profile | None:
    """Return the OCI spec's `linux.seccomp`, None for no filter. `localhost` is the text of the file `wanted` named, `default`
    that of the profile which stands for RuntimeDefault, crid's own if it is None, and `privileged` that of privileged
    containers.

    Raises an error if the profile is missing or malformed, or if the kernel has no seccomp and a file was asked for.
    """
    kinds = cri.SecurityProfile.ProfileType
    if security.privileged and privileged is not None and supported:
        return compile_profile(json.loads(privileged), bounding, machine)
    kind, path = wanted(security, asked)
    if kind == kinds.Unconfined:
        return None
    if kind == kinds.RuntimeDefault:
        if not supported:
            return None
        if default is not None:
            return compile_profile(json.loads(default), bounding, machine)
        shared = _default(bounding, machine)
        return {**shared, "syscalls": [dict(entry) for entry in shared["syscalls"]]}  # so that it can be adjusted
    if not supported:
        raise FailedPreconditionError(f"security_context.seccomp: {path}: this kernel has no seccomp")
    if localhost is None:
        raise InvalidArgumentError(f"security_context.seccomp.localhost_ref: no profile at {path}")
    return parse_profile(localhost, f"security_context.seccomp.localhost_ref: {path}", bounding, machine)


def parse_profile(text: str, name: str, bounding: frozenset[str], machine: str) -> Profile:
    """Return the profile `text` in pure OCI form. Raises InvalidArgumentError beginning with `name` if it is malformed."""
    try:
        return compile_profile(json.loads(text), bounding, machine)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{name}: not JSON: {error}") from error
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{name}: {error}") from error


def program_annotation(
    security: cri.LinuxContainerSecurityContext, bounding: frozenset[str], machine: str, *, supported: bool, asked: str = ""
) -> dict[str, str]:
    """Return the annotation that spares crun compiling crid's own profile (see `bpf`); empty where that is not asked for."""
    if not supported or wanted(security, asked)[0] != cri.SecurityProfile.ProfileType.RuntimeDefault:
        return {}
    program = _default_program(bounding, machine)
    return {PROGRAM_ANNOTATION: program} if program else {}


@lru_cache(maxsize=64)
def _default_program(bounding: frozenset[str], machine: str) -> str:
    """Return the default profile's program in base64, "" if there is none for this machine."""
    return base64.b64encode(bpf.compile_program(_default(bounding, machine))).decode()


@lru_cache(maxsize=64)
def _default(bounding: frozenset[str], machine: str) -> Profile:
    """Return the default profile in pure OCI form; nobody changes it."""
    return compile_profile(_default_profile(), bounding, machine)


def compile_profile(profile: object, capabilities: frozenset[str], machine: str) -> Profile:
    """Return `profile` in pure OCI form for a container with these capabilities on this machine.

    Calls without conditions on their arguments are gathered by outcome, and those whose outcome is the default one are
    left out: the runtime compiles the filter for each container, in a time that grows with the rules.
    """
    if not isinstance(profile, dict):
        raise InvalidArgumentError("not an object")
    compiled: Profile = {"defaultAction": _action(profile.get("defaultAction"), "defaultAction")}
    if "defaultErrnoRet" in profile:
        compiled["defaultErrnoRet"] = _number(profile["defaultErrnoRet"], "defaultErrnoRet")
    architectures = _architectures(profile, machine)
    if architectures:
        compiled["architectures"] = architectures
    compiled |= {key: profile[key] for key in _PASSED_ON if key in profile}
    entries = _list(profile.get("syscalls", []), "syscalls")
    applying = [
        _entry(item, f"syscalls[{index}]")
        for index, item in enumerate(entries)
        if _applies(item, f"syscalls[{index}]", capabilities, machine)
    ]
    compiled["syscalls"] = _gathered(applying, compiled)
    return compiled


def _gathered(entries: Iterable[Profile], compiled: Profile) -> list[Profile]:
    """Join entries of equal outcome, keeping those with conditions on arguments one by one."""
    default = (compiled["defaultAction"], compiled.get("defaultErrnoRet"))
    plain: dict[tuple[str, int | None], dict[str, None]] = {}
    conditional = []
    for entry in entries:
        outcome = (entry["action"], entry.get("errnoRet"))
        if entry.get("args"):
            conditional.append(entry)
        elif outcome != default:
            plain.setdefault(outcome, {}).update(dict.fromkeys(entry["names"]))
    gathered = []
    for (action, number), names in plain.items():
        entry = {"names": list(names), "action": action}
        gathered.append(entry if number is None else {**entry, "errnoRet": number})
    return gathered + conditional


def _applies(item: object, where: str, capabilities: frozenset[str], machine: str) -> bool:
    """Whether an entry counts: all of `includes` must hold, none of `excludes` may."""
    if not isinstance(item, dict):
        raise InvalidArgumentError(f"{where}: not an object")
    includes, excludes = (item.get(key) or {} for key in ("includes", "excludes"))
    if not isinstance(includes, dict) or not isinstance(excludes, dict):
        raise InvalidArgumentError(f"{where}: includes and excludes must be objects")
    needed, barred = (set(_strings(rule.get("caps") or [], where)) for rule in (includes, excludes))
    only_on, not_on = (_strings(rule.get("arches") or [], where) for rule in (includes, excludes))
    name = _GO_NAMES.get(machine, machine)
    return needed <= capabilities and not barred & capabilities and (not only_on or name in only_on) and name not in not_on


def _entry(item: Profile, where: str) -> Profile:
    """Return one checked entry in pure OCI form."""
    names = item.get("names") or [item.get("name")]
    entry: Profile = {"names": _strings(names, f"{where}.names"), "action": _action(item.get("action"), f"{where}.action")}
    if item.get("errnoRet") is not None:
        entry["errnoRet"] = _number(item["errnoRet"], f"{where}.errnoRet")
    elif item.get("errno"):
        entry["errnoRet"] = _errno(item["errno"], f"{where}.errno")
    if entry["action"] not in _ERRNO_ACTIONS:
        entry.pop("errnoRet", None)
    if item.get("args"):
        entry["args"] = [_argument(arg, f"{where}.args") for arg in _list(item["args"], f"{where}.args")]
    return entry


def _argument(arg: object, where: str) -> Profile:
    """Return one checked condition on an argument."""
    if not isinstance(arg, dict) or not isinstance(arg.get("op"), str):
        raise InvalidArgumentError(f"{where}: wants objects with index, value and op")
    index = _number(arg.get("index"), f"{where}.index")
    if index >= _ARGUMENTS:
        raise InvalidArgumentError(f"{where}.index: {index} is not below {_ARGUMENTS}")
    return {
        "index": index,
        "value": _number(arg.get("value"), f"{where}.value"),
        "valueTwo": _number(arg.get("valueTwo") or 0, f"{where}.valueTwo"),
        "op": arg["op"],
    }


def _architectures(profile: Profile, machine: str) -> list[str]:
    """Return the architectures to filter: those listed, else the machine's with its sub-architectures."""
    if profile.get("architectures"):
        return _strings(profile["architectures"], "architectures")
    own = _ARCHITECTURES.get(machine)
    for item in _list(profile.get("archMap") or [], "archMap"):
        if isinstance(item, dict) and item.get("architecture") == own and own is not None:
            return [own, *_strings(item.get("subArchitectures") or [], "archMap.subArchitectures")]
    return []


def is_word(text: str) -> bool:
    """Whether `text` is a profile in one word; what an annotation says else is the name of an OCI artifact."""
    return text in ("", "unconfined", "runtime/default", "docker/default") or text.startswith(_LOCALHOST)


def _spelled(text: str, field: str) -> tuple["cri.SecurityProfile.ProfileType.ValueType", str]:
    """Read a profile in one word, as the deprecated field `seccomp_profile_path` and annotations have it."""
    kinds = cri.SecurityProfile.ProfileType
    if text in ("", "unconfined"):
        return kinds.Unconfined, ""
    if text in ("runtime/default", "docker/default"):
        return kinds.RuntimeDefault, ""
    if text.startswith(_LOCALHOST):
        return kinds.Localhost, text.removeprefix(_LOCALHOST)
    raise InvalidArgumentError(f"{field}: {text[:128]!r} is not runtime/default, unconfined or localhost/PATH")


@cache
def _default_profile() -> Profile:
    """Return the default profile; nobody changes it."""
    profile: Profile = json.loads(resources.files(__package__).joinpath("seccomp_default.json").read_text(encoding="utf-8"))
    return profile


def _action(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in ACTIONS:
        raise InvalidArgumentError(f"{where}: {str(value)[:64]!r} is no seccomp action")
    return value


def _errno(value: object, where: str) -> int:
    number = getattr(errno, value, None) if isinstance(value, str) and value.startswith("E") else None
    if not isinstance(number, int):
        raise InvalidArgumentError(f"{where}: {str(value)[:64]!r} is no errno")
    return number


def _number(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise InvalidArgumentError(f"{where}: must be a number between 0 and 2^64")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidArgumentError(f"{where}: must be an array")
    return value


def _strings(value: object, where: str) -> list[str]:
    if not all(isinstance(item, str) for item in _list(value, where)):
        raise InvalidArgumentError(f"{where}: must hold strings")
    return list(_list(value, where))
