"""User namespaces that live without a process, and the other namespaces of a pod that they own.

A process with threads, as the daemon is, cannot make one (unshare(2)). So `crid-userns` does (conmon/userns.c has the
conversation), the daemon writes the maps from outside, pins what was made by bind mounts, and lets the program end. All
of it takes milliseconds. The functions block; call them with `asyncio.to_thread`, from a task that will not be
cancelled halfway.
"""

import contextlib
import os
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from crid.linux.mount import MS_BIND, mount
from crid.linux.namespaces import CLONE_FLAGS, sysctl_path, unpin
from crid.linux.process import spawn
from crid.model.idmap import IdMap

TIMEOUT = 10.0
"""Seconds in which `crid-userns` must answer; it takes milliseconds."""

_CHANNEL = 3


def pin_user_namespace(
    program: Path,
    directory: Path,
    kinds: Collection[str],
    idmap: IdMap,
    *,
    hostname: str | None = None,
    sysctls: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Make a user namespace with the map `idmap` and namespaces of `kinds` that it owns; pin each as `directory`/KIND, the
    first as `directory`/user; return these paths.

    `program` is crid-userns. `hostname` and `sysctls` are as in `crid.linux.namespaces.pin_namespaces`. Raises OSError naming
    the call, ValueError for a kind that cannot be pinned or a bad name of a sysctl; nothing is pinned then.
    """
    if unknown := set(kinds) - CLONE_FLAGS.keys():
        raise ValueError(f"no namespace of kind {min(unknown)} can be pinned")
    argv = [str(program), str(_CHANNEL), *kinds]
    argv += ["--hostname", hostname] if hostname is not None else []
    for name, value in (sysctls or {}).items():
        argv += ["--sysctl", sysctl_path(name), value]
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        with theirs:
            child = spawn(argv, descriptors={_CHANNEL: theirs.fileno()}, environment={})
        stack.callback(child.end)
        ours.settimeout(TIMEOUT)
        answers = stack.enter_context(ours.makefile("r"))
        _expect(answers.readline(), "made")
        for name, mapped in (("uid_map", idmap.users), ("gid_map", idmap.groups)):
            _write_map(f"/proc/{child.pid}/{name}", mapped.to_kernel())
        ours.sendall(b"\0")
        _expect(answers.readline(), "ready")
        with contextlib.ExitStack() as undo:
            pinned = {}
            for kind in ("user", *kinds):
                pinned[kind] = path = os.fspath(directory / kind)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                undo.callback(unpin, path)
                mount(f"/proc/{child.pid}/ns/{kind}", path, "", MS_BIND)
            undo.pop_all()
        return pinned


def _expect(answer: str, word: str) -> None:
    if answer.strip() != word:
        raise OSError(answer.strip().removeprefix("error: ") or "crid-userns ended without a word")


def _write_map(path: str, line: str) -> None:
    """Write all of a map in one write(2), as the kernel wants it (user_namespaces(7))."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, line.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {line!r}: {error.strerror}", path) from error
    finally:
        os.close(descriptor)
