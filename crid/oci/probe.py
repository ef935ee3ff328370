"""What a runtime program can do, and whether it works on this host: asked and tried, never assumed from its name.

`RUNTIME features` (runtime-spec, features.md) answers for runc since 1.1 and crun since 1.8.6. Before that crun knows
recursive mount options. Nothing tells whether pods can have user namespaces: crid.oci.userns_probe tries it.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crid.errors import CridError, UnavailableError
from crid.linux import process
from crid.oci.program import RuntimeCommand, RuntimeProgram

TIMEOUT = 20.0
_STATE = "root"
"""Where in a bundle the runtime keeps what it knows of its container."""
FIRST_CRUN_WITH_RECURSIVE_OPTIONS = (1, 4)
FIRST_KERNEL_WITH_MOUNT_SETATTR = (5, 12)
"""mount_setattr(2), without which there are no recursive options."""


@dataclass(frozen=True, slots=True)
class RuntimeFeatures:
    """What a runtime program can do on this kernel."""

    name: str
    version: str
    recursive_read_only: bool = False
    """Read-only mounts whose submounts are read-only too (CRI's recursive_read_only_mounts)."""
    user_namespaces: bool = False
    """Whether pods can have user namespaces here, as tried."""


async def features(program: RuntimeProgram) -> RuntimeFeatures:
    """Ask `program` what it is and can do. Raises UnavailableError if it cannot be run."""
    command = RuntimeCommand(program, os.environ)
    known = parse_version(await _ask(command, "--version"))
    done = await _run(command, "features")
    if done.exit_code == 0:
        known = parse_features(known, done.stdout)
    elif known.name == "crun":
        known = replace(known, recursive_read_only=_numbers(known.version) >= FIRST_CRUN_WITH_RECURSIVE_OPTIONS)
    return limited_by_kernel(known, os.uname().release)


def parse_version(text: str) -> RuntimeFeatures:
    """Return who a runtime is by what `--version` prints: `crun version 1.8.1`."""
    first = re.match(r"(\S+) version (\S+)", text)
    if first is None:
        raise UnavailableError(f"not a runtime's version: {text[:80]!r}")
    return RuntimeFeatures(name=first[1], version=first[2])


def parse_features(known: RuntimeFeatures, document: bytes) -> RuntimeFeatures:
    """Return `known` with what the JSON of `features` adds. Keys that are missing mean no."""
    try:
        stated = json.loads(document)
        options = set(stated.get("mountOptions") or ())
    except (ValueError, AttributeError, TypeError) as error:
        raise UnavailableError(f"{known.name} features: not what the runtime-spec describes: {error}") from error
    return replace(known, recursive_read_only="rro" in options)


def limited_by_kernel(known: RuntimeFeatures, release: str) -> RuntimeFeatures:
    """Return `known` without what the kernel of this release lacks."""
    if _numbers(release) >= FIRST_KERNEL_WITH_MOUNT_SETATTR:
        return known
    return replace(known, recursive_read_only=False)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:2])


async def why_not_here(program: RuntimeProgram, directory: Path) -> str | None:
    """Create a container of nothing with `program` and remove it again; return None if that worked, else the reason.

    Only `create` meets everything that a host can refuse: Debian's crun, for one, answers `list` and `--version` on a host
    that mixes cgroup v1 and v2, but creates nothing there. `directory` is where it is tried: it is removed afterwards, and
    what an earlier attempt has left there is before.
    """
    await undo(program, directory)
    try:
        shutil.rmtree(directory, ignore_errors=True)
        write_bundle(directory, systemd_cgroup=program.systemd_cgroup)
        return await why_not_created(program, directory)
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def why_not_created(program: RuntimeProgram, bundle: Path) -> str | None:
    """Create a container of `bundle` and remove it again; return None if that worked, else the reason."""
    command, identifier = _in(program, bundle), _identifier(bundle)
    try:
        pivot = ("--no-pivot",) if program.no_pivot else ()
        done = await _run(command, "create", *pivot, "--bundle", str(bundle), identifier)
        return None if done.exit_code == 0 else done.error_text or f"exit code {done.exit_code}"
    except CridError as error:
        return str(error)
    finally:
        await asyncio.shield(_run(command, "delete", "--force", identifier))


async def undo(program: RuntimeProgram, bundle: Path) -> None:
    """End the container of an attempt in `bundle` that was cut off, as by the daemon's end: its process and its cgroup."""
    if (bundle / _STATE).is_dir():
        with contextlib.suppress(CridError):  # the attempt that follows tells what is wrong
            await _run(_in(program, bundle), "delete", "--force", _identifier(bundle))


def _in(program: RuntimeProgram, bundle: Path) -> RuntimeCommand:
    return RuntimeCommand(replace(program, root=bundle / _STATE), os.environ)


def _identifier(bundle: Path) -> str:
    """Return the name of the container and of its cgroup: the same for each attempt in the same place."""
    return f"crid-probe-{zlib.crc32(os.fsencode(bundle)):08x}"


def write_bundle(bundle: Path, *, systemd_cgroup: bool, linux: Mapping[str, Any] | None = None) -> None:
    """Write the smallest bundle that both crun and runc create: a program that is never started, and /proc. `linux` replaces
    what its spec says under that name."""
    identifier = _identifier(bundle)
    for name in ("proc", "dev", "sys"):
        (bundle / "rootfs" / name).mkdir(parents=True)
    (bundle / "rootfs" / "probe").touch(mode=0o755)
    mounts = [{"destination": f"/{name}", "type": kind, "source": kind} for name, kind in (("proc", "proc"), ("sys", "sysfs"))]
    document = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/probe"], "cwd": "/"},
        "root": {"path": str(bundle / "rootfs"), "readonly": True},
        "mounts": mounts[: 2 if linux else 1],
        "linux": {
            "cgroupsPath": f"system.slice:crid:{identifier}" if systemd_cgroup else f"/{identifier}",
            "namespaces": [{"type": "mount"}, {"type": "pid"}],
            **(linux or {}),
        },
    }
    (bundle / "config.json").write_text(json.dumps(document))


@dataclass(frozen=True, slots=True)
class Choice:
    """A runtime for handlers that name none, and why it was this one."""

    program: RuntimeProgram
    reason: str


async def choose_default(candidates: Sequence[RuntimeProgram], directory: Path) -> Choice:
    """Return the first of `candidates` that works here, tried below `directory`; put crun first, which needs a quarter of
    runc's time.

    Raises UnavailableError naming each one's reason.
    """
    refused: list[str] = []
    for program in candidates:
        reason = await why_not_here(program, directory / f"try-{program.name}")
        if reason is None:
            return Choice(program, f"{program.name} works on this host" + "".join(f"; {why}" for why in refused))
        refused.append(f"{program.name} does not: {reason}")
    raise UnavailableError(f"no OCI runtime works on this host: {'; '.join(refused) or 'none is installed'}")


async def _ask(command: RuntimeCommand, option: str) -> str:
    done = await _run(command, option)
    if done.exit_code:
        raise UnavailableError(f"runtime {command.program.path} {option}: {done.error_text}")
    return done.stdout.decode(errors="replace")


async def _run(command: RuntimeCommand, verb: str, *arguments: str) -> process.Completed:
    return await command.call("probe", verb, *arguments, timeout=TIMEOUT)
