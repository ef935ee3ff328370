"""Which OCI runtimes there are, what they can do here, and where crid's own programs are."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import crid
from crid.assembly import hosts
from crid.config import Config, RuntimeHandlerConfig
from crid.errors import InvalidArgumentError, UnavailableError
from crid.linux.kernel import Kernel
from crid.linux.process import find_program
from crid.log import fields
from crid.model.mount import Mount
from crid.oci.probe import RuntimeFeatures, choose_default, features
from crid.oci.program import RuntimeProgram
from crid.oci.userns_probe import why_no_user_namespaces

logger = logging.getLogger(__name__)

CRUN_FIRST = ("crun", "runc")
"""The runtimes looked for where the configuration names none; the first that works here is the default."""


@dataclass(frozen=True, slots=True)
class Runtimes:
    """The OCI runtimes of this node by handler, what each can do here, and which is the default."""

    programs: dict[str, RuntimeProgram]
    features: dict[str, RuntimeFeatures]
    default: str


async def probe(config: Config, kernel: Kernel) -> Runtimes:
    """Find the runtimes and try what they can do. Raises UnavailableError, InvalidArgumentError."""
    programs = runtime_programs(config)
    for program in programs.values():
        program.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    asking = asyncio.gather(*(_features(program, kernel, Path(config.root)) for program in programs.values()))
    default, found = await asyncio.gather(_default(config, kernel, programs), asking)
    return Runtimes(programs, dict(zip(programs, found, strict=True)), default)


def runtime_programs(config: Config) -> dict[str, RuntimeProgram]:
    """Find the configured runtimes, or those that are installed."""
    configured = config.runtime.runtimes or {
        name: RuntimeHandlerConfig() for name in CRUN_FIRST if find_program(name) is not None
    }
    if not configured:
        raise UnavailableError(f"no OCI runtime: none is configured, and none of {', '.join(CRUN_FIRST)} is in PATH")
    return {name: _program(config, name, handler) for name, handler in configured.items()}


def _program(config: Config, name: str, handler: RuntimeHandlerConfig) -> RuntimeProgram:
    runtime = config.runtime
    if handler.inherit_default_runtime and runtime.default_runtime != name:
        if (default := runtime.runtimes.get(runtime.default_runtime)) is None:
            key = f"crid.runtime.runtimes.{name}.inherit_default_runtime"
            raise InvalidArgumentError(f"{key}: crid.runtime.default_runtime names no table")
        inherited = default.runtime_root or str(Path(config.runroot, "runtimes", runtime.default_runtime))
        handler = replace(handler, runtime_path=default.runtime_path or runtime.default_runtime, runtime_root=inherited)
    path = find_program(handler.runtime_path or name)
    if path is None:
        raise InvalidArgumentError(f"crid.runtime.runtimes.{name}: no program {handler.runtime_path or name!r}")
    monitor_path = handler.monitor_path or runtime.conmon
    monitor = Path(monitor_path) if monitor_path else own_program("conmon")
    if not os.access(monitor, os.X_OK):
        raise InvalidArgumentError(f"crid.runtime.runtimes.{name}.monitor_path: {monitor} is not a program")
    root = Path(handler.runtime_root or Path(config.runroot, "runtimes", name))
    return RuntimeProgram(
        name=name,
        path=path,
        root=root,
        monitor=monitor,
        systemd_cgroup=runtime.cgroup_manager == "systemd",
        log_size_max=runtime.log_size_max,
        create_timeout=handler.container_create_timeout or runtime.container_create_timeout,
        stop_timeout=runtime.ctr_stop_timeout,
        no_pivot=runtime.no_pivot,
        sync_log=not handler.no_sync_log,
        journald=runtime.log_to_journald,
        monitor_environment=hosts.monitor_environment(runtime, handler, name),
    )


async def _features(program: RuntimeProgram, kernel: Kernel, root: Path) -> RuntimeFeatures:
    """Return what a runtime can do here, user namespaces tried."""
    said, refused = await asyncio.gather(
        features(program),
        why_no_user_namespaces(program, kernel, own_program("crid-userns"), root / f"probe-{program.name}"),
    )
    if refused is not None:
        logger.warning("pods cannot have user namespaces%s", fields(runtime=program.name, why=refused))
    return replace(said, user_namespaces=refused is None)


async def _default(config: Config, kernel: Kernel, programs: Mapping[str, RuntimeProgram]) -> str:
    """Return the default handler: the configured one, else the first that works on this host."""
    if config.runtime.default_runtime:
        return config.runtime.default_runtime
    order = sorted(programs, key=lambda name: CRUN_FIRST.index(name) if name in CRUN_FIRST else len(CRUN_FIRST))
    with _in_memory(kernel, Path(config.runroot, "probe")) as directory:
        choice = await choose_default([programs[name] for name in order], directory)
    logger.info("default runtime%s", fields(name=choice.program.name, why=choice.reason))
    return choice.program.name


@contextlib.contextmanager
def _in_memory(kernel: Kernel, directory: Path) -> Iterator[Path]:
    """Have a tmpfs at `directory` for the block, the one of an earlier daemon if that was cut off.

    The daemon must start on a full disk: it is who makes room there. The run directory itself does not do, /run is often
    mounted noexec or nodev, and a container's programs and devices must work there. The directory stays for the next start,
    for which there may be no room for another.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not kernel.is_mount_point(str(directory)):
        kernel.perform(Mount(str(directory), "crid-probe", "tmpfs", ("size=1m", "mode=0700")))
    try:
        yield directory
    finally:
        kernel.unmount(str(directory))


def own_program(name: str) -> Path:
    """Return a program of crid's own: beside the installed package, or in the source tree. Raises UnavailableError."""
    package = Path(crid.__file__).parent
    for candidate in (package / "libexec" / name, package.parent / "conmon" / name):
        if os.access(candidate, os.X_OK):
            return candidate
    raise UnavailableError(f"crid's own program {name} is not installed; scripts/setup builds it")
