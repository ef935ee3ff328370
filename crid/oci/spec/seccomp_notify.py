"""The seccomp notifier: a profile whose refusals are reported to the daemon, seccomp_unotify(2).

A pod asks for it by annotation, where its handler's allowed_annotations has that. The calls that the profile refuses then wait
for the daemon's answer, which is the same refusal; so the container is not let do any more than before, and its owner learns
which calls it needs.

Not reported are calls that fail with ENOSYS (programs make them to find out what the kernel knows, and do without), calls that
the profile refuses only for some arguments or allows only for some, and those that the OCI runtime itself makes between loading
the filter and running the program. Where the profile refuses whatever it does not name, that is all calls of this machine's
table that it does not name.
"""

import errno
import json
from collections.abc import Mapping
from typing import Any

from crid.errors import InvalidArgumentError
from crid.oci.spec import bpf
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION, Profile

STOP = "stop"
"""The annotation's value that has the container stopped; any other only has the calls logged."""

_REFUSALS = frozenset(("SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"))
_RUNTIMES_OWN = {
    *("close", "execve", "execveat", "exit", "exit_group", "fcntl", "fstat", "futex", "getpid", "getppid", "gettid", "mmap"),
    *("munmap", "nanosleep", "newfstatat", "prctl", "read", "readlinkat", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn"),
    *("sched_yield", "sendmsg", "sendto", "sigaltstack", "tgkill", "write"),
}


def notifying(spec: Mapping[str, Any], listener: str, machine: str) -> dict[str, Any] | None:
    """Return `spec` with a profile whose refusals are reported to the socket `listener`; None if there is nothing to report.

    That is so without a profile, and where the profile has a listener of its own. What each call shall fail with is in the
    metadata that comes with the reports; see `errors_of`.
    """
    profile: Profile | None = spec["linux"].get("seccomp")
    if profile is None or profile.get("listenerPath"):
        return None
    entries, refused = _reported(profile, machine)
    if not refused:
        return None
    metadata = json.dumps({name: number for name, number in refused.items() if number != errno.EPERM})
    changed = {**profile, "syscalls": entries, "listenerPath": listener, "listenerMetadata": metadata}
    # What is compiled from the profile for crun would take its place.
    annotations = {key: value for key, value in spec["annotations"].items() if key != PROGRAM_ANNOTATION}
    return {**spec, "annotations": annotations, "linux": {**spec["linux"], "seccomp": changed}}


def errors_of(metadata: str) -> dict[str, int]:
    """Return what `notifying` put into the metadata: the errors, by call, that are not EPERM. Raises InvalidArgumentError."""
    try:
        return {str(name): int(number) for name, number in json.loads(metadata or "{}").items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidArgumentError(f"not the metadata of a seccomp listener: {error}") from error


def _reported(profile: Profile, machine: str) -> tuple[list[Profile], dict[str, int]]:
    """Return the entries as they shall be, and the calls that are reported, with the error that each fails with."""
    mixed = {name for entry in profile["syscalls"] if entry.get("args") for name in entry["names"]}
    entries: list[Profile] = []
    refused: dict[str, int] = {}
    for entry in profile["syscalls"]:
        number = _error(entry["action"], entry.get("errnoRet"))
        kept = [name for name in entry["names"] if number is None or name in _RUNTIMES_OWN | mixed]
        refused |= {name: number for name in entry["names"] if number is not None and name not in kept}
        if kept:
            entries.append({**entry, "names": kept})
    number = _error(profile["defaultAction"], profile.get("defaultErrnoRet"))
    if number is not None:
        named = {name for entry in profile["syscalls"] for name in entry["names"]}
        table = bpf.call_numbers(f"SCMP_ARCH_{machine.upper()}")
        refused |= {name: number for name in table if name not in named | _RUNTIMES_OWN}
    if refused:
        entries.append({"names": list(refused), "action": "SCMP_ACT_NOTIFY"})
    return entries, refused


def _error(action: str, number: int | None) -> int | None:
    """Return what a refused call fails with, None if it is not refused or not to be reported."""
    if action not in _REFUSALS:
        return None
    found = number if action == "SCMP_ACT_ERRNO" and number is not None else errno.EPERM
    return None if found == errno.ENOSYS else found
