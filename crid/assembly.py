"""How the providers are built out of the configuration and the machine; `crid.daemon` ties them to the use cases."""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from crid import hosts, hosts_tuning
from crid.cgroup import naming
from crid.cgroup.detect import detect
from crid.cgroup.hierarchy import Hierarchy
from crid.cgroup.systemd import Systemd
from crid.config import Config, NetworkConfig, NriConfig, RuntimeHandlerConfig, seconds
from crid.errors import AlreadyExistsError, InvalidArgumentError, UnavailableError
from crid.events.broadcast import Broadcast
from crid.image.service import ImageService
from crid.lifecycle import labels
from crid.lifecycle.cgroups import PodCgroups, PodDirectories, own_name, own_parent
from crid.lifecycle.check.gather import Places
from crid.lifecycle.check.processes import Programs
from crid.lifecycle.event_hooks import EventHooks, PodEvent
from crid.lifecycle.hooks import Hooks
from crid.lifecycle.id_ranges import IdRangeAllocator
from crid.lifecycle.listeners import Listeners
from crid.lifecycle.monitors import Monitors
from crid.lifecycle.nri_hooks import NriHooks
from crid.lifecycle.parts import Parts
from crid.lifecycle.seccomp_notifier import SeccompNotifier
from crid.lifecycle.slices import PodSlices
from crid.lifecycle.tuning import Tuning
from crid.linux.kernel import Kernel, Linux
from crid.linux.process import find_program
from crid.log import fields
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from crid.net.bridge import BridgeNetwork
from crid.net.choice import ChosenNetwork
from crid.net.cni import CniNetwork
from crid.nri.plugin import Timeouts
from crid.oci.cdi import CdiDevices
from crid.oci.exits import Exits as ExitNotices
from crid.oci.hooks import HookDirectories
from crid.oci.probe import RuntimeFeatures, choose_default, features
from crid.oci.program import RuntimePaths, RuntimeProgram
from crid.oci.runtime import Runtime
from crid.oci.runtime_oci import RuntimeOCI
from crid.oci.userns_probe import why_no_user_namespaces
from crid.store.memory import MemoryStore
from crid.store.names import NameRegistry
from crid.store.state import StateStore
from crid.tasks import Supervisor
from crid.tuning.files import HostFiles
from crid.tuning.irqbalance import Irqbalance
from crid.tuning.ledger import Ledger

logger = logging.getLogger(__name__)

_CLOSE_GRACE = 1.0
"""Seconds for what a plugin was being told."""

LOCK = "lock"
"""The file in the root directory that its user holds."""

CRUN_FIRST = ("crun", "runc")
"""The runtimes looked for where the configuration names none; the first that works here is the default."""


@dataclass(frozen=True, slots=True)
class Providers:
    """What the daemon drives besides the parts of the use cases."""

    parts: Parts
    features: dict[str, RuntimeFeatures]
    exits: ExitNotices
    network: ChosenNetwork
    places: Places
    listeners: Listeners
    events: Broadcast[PodEvent]
    notifier: SeccompNotifier
    nri: NriHooks | None
    """None where plugins are disabled."""
    plugins: Supervisor
    """What goes on for them."""

    async def close(self) -> None:
        """Release descriptors and threads. Pods keep their network, containers go on."""
        await self.plugins.close(_CLOSE_GRACE)
        await self.network.close()
        self.exits.close()
        await self.parts.images.close()


async def providers(config: Config, supervisor: Supervisor) -> Providers:
    """Build everything below the use cases.

    Raises UnavailableError or InvalidArgumentError if the machine lacks a part, FailedPreconditionError, with nothing
    touched, if a newer crid wrote the records.
    """
    root, run_root = Path(config.root), Path(config.runroot)
    state = StateStore(root, run_root)
    state.refuse_newer()
    paths = RuntimePaths(exits=run_root / "exits", attach_sockets=run_root / "attach")
    for directory in (root, run_root, run_root / "pods", run_root / "containers", paths.exits, paths.attach_sockets):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    hierarchy = detect()
    cgroups = await _cgroups(config, hierarchy)
    containers: MemoryStore[Container] = MemoryStore("container")
    sandboxes: MemoryStore[PodSandbox] = MemoryStore("pod sandbox")
    programs = runtime_programs(config)
    for program in programs.values():
        program.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    kernel = Linux()
    asking = asyncio.gather(*(_features(program, kernel, root) for program in programs.values()))
    default, found = await asyncio.gather(_default(config, programs), asking)
    known = dict(zip(programs, found, strict=True))

    machines = await hosts.gather(config, hierarchy.host_resources(), known)
    monitors = {name: _monitors(config, name, hierarchy, sandboxes) for name in programs}
    host_files = HostFiles()
    tuning = Tuning(
        host_files,
        Ledger(host_files, run_root / "tuning.json"),
        _irqbalance(config, host_files),
        hierarchy,
        sandboxes,
        machines,
        supervisor,
        infra_cpus=hosts_tuning.infra_cpus(config.runtime),
    )

    def runtime_of(program: RuntimeProgram) -> RuntimeOCI:
        return RuntimeOCI(
            program,
            paths,
            supervisor,
            read_stats=lambda path: hierarchy.stats(naming.resolve(path)),
            remove_cgroup=lambda path: hierarchy.remove_async(naming.resolve(path)),
            placement=monitors[program.name],
        )

    images = image_service(config, supervisor)
    if any(host.selinux for host in machines.values()):
        await asyncio.to_thread(labels.prepare_layers, str(images.layer_directories[0]))
    exits = ExitNotices(paths.exits, containers.find)
    network = _network(config.network, root / "network")
    await network.start()
    plugins = Supervisor("plugins")
    cdi = CdiDevices(config.runtime.cdi_spec_dirs)
    classes = await asyncio.to_thread(hosts_tuning.classes, config.runtime, run_root)
    nri = None
    if config.nri.enable_nri:
        nri = NriHooks(sandboxes, containers, plugins, _timeouts(config.nri), cdi.edits, classes)
    events: Broadcast[PodEvent] = Broadcast()
    notifier = SeccompNotifier(run_root / "seccomp", sandboxes, state, machines, supervisor)
    told: list[Hooks] = [EventHooks(sandboxes, containers, events), notifier, *([nri] if nri is not None else [])]
    listeners = Listeners(plugins, *told)
    oci_hooks = HookDirectories(config.runtime.hooks_dir)
    await asyncio.to_thread(oci_hooks.get)  # so that the log says at once which of them do not count
    parts = Parts(
        supervisor=supervisor,
        run_root=run_root,
        kernel=kernel,
        runtime=Runtime({name: runtime_of(program) for name, program in programs.items()}, default),
        images=images,
        network=network,
        cgroups=cgroups,
        state=state,
        sandboxes=sandboxes,
        containers=containers,
        sandbox_names=NameRegistry("pod"),
        container_names=NameRegistry("container"),
        hosts=machines,
        hostname=socket.gethostname(),
        pause_program=own_program("crid-pause"),
        userns_program=own_program("crid-userns"),
        pids_limit=config.runtime.pids_limit,
        id_ranges=IdRangeAllocator(
            sandboxes,
            config.runtime.root_auto_userns_user,
            next((host.policy.default_user_namespace for host in machines.values()), None),
        ),
        tuning=tuning,
        monitors=monitors,
        classes=classes,
        cdi=cdi,
        oci_hooks=oci_hooks,
        hooks=listeners,
    )
    found_at = places(config, programs.values(), hierarchy)
    return Providers(parts, known, exits, network, found_at, listeners, events, notifier, nri, plugins)


def places(config: Config, programs: Collection[RuntimeProgram], hierarchy: Hierarchy) -> Places:
    """Return where pods and containers of this configuration leave traces."""
    run_root = Path(config.runroot)
    roots = {program.name: program.root for program in programs}
    return Places(
        root=Path(config.root),
        run_root=run_root,
        runtime_roots=roots,
        hierarchy=hierarchy,
        cgroup_parent=own_parent(config.runtime.cgroup_manager, own_name(run_root)),
        programs=Programs(
            monitors=frozenset(str(program.monitor) for program in programs),
            runtime_roots=frozenset(str(root) for root in roots.values() if root.is_relative_to(run_root)),
            helpers=frozenset(str(own_program(name)) for name in ("crid-pause", "crid-userns")),
            plugin_directories=frozenset(str(Path(directory)) for directory in config.network.plugin_dirs),
        ),
    )


async def _cgroups(config: Config, hierarchy: Hierarchy) -> PodCgroups:
    """Return the configured driver. Raises UnavailableError if systemd is to rule the cgroups and is not there."""
    name = own_name(Path(config.runroot))
    if config.runtime.cgroup_manager != "systemd":
        return PodDirectories(hierarchy, name)
    systemd = Systemd()
    try:
        version = await systemd.version()
    except UnavailableError as error:
        raise UnavailableError(f"crid.runtime.cgroup_manager: {error}") from error
    logger.info("systemd rules the cgroups%s", fields(version=version))
    return PodSlices(hierarchy, systemd, name)


def _monitors(config: Config, name: str, hierarchy: Hierarchy, sandboxes: MemoryStore[PodSandbox]) -> Monitors:
    """Build what places the monitors of the runtime handler `name`."""
    runtime = config.runtime
    handler = runtime.runtimes.get(name, RuntimeHandlerConfig())
    return Monitors(
        hierarchy,
        sandboxes,
        Systemd() if runtime.cgroup_manager == "systemd" else None,
        where=runtime.conmon_cgroup or handler.monitor_cgroup,
        exec_in_container=handler.monitor_exec_cgroup == "container",
        infra_cpus=hosts_tuning.infra_cpus(runtime),
        workloads=hosts_tuning.workloads(runtime),
    )


def _irqbalance(config: Config, files: HostFiles) -> Irqbalance:
    kept = config.runtime.irqbalance_config_restore_file
    saved = None if kept == "disable" else Path(kept or Path(config.root, "irqbalance-banned-cpus"))
    return Irqbalance(files, config.runtime.irqbalance_config_file, saved)


def _timeouts(config: NriConfig) -> Timeouts:
    return Timeouts(seconds(config.nri_plugin_registration_timeout), seconds(config.nri_plugin_request_timeout))


def _network(config: NetworkConfig, directory: Path) -> ChosenNetwork:
    """Build the built-in network and CNI, of which each pod gets one."""
    map_host_ports = not config.disable_hostport_mapping
    bridge = BridgeNetwork(config.bridge, config.subnets(), directory, map_host_ports=map_host_ports)
    cni = CniNetwork(
        Path(config.network_dir),
        [Path(path) for path in config.plugin_dirs],
        directory / "cni",
        bridge.host_ports,
        default_network=config.cni_default_network,
    )
    return ChosenNetwork(bridge, cni)


def image_service(config: Config, supervisor: Supervisor) -> ImageService:
    """Build and load the image service alone; the commands for images need nothing else."""
    images = ImageService(
        Path(config.root),
        Path(config.image.registries_conf),
        supervisor,
        max_concurrent_downloads=config.image.max_concurrent_downloads,
        settings=config.image,
    )
    images.pin(config.image.pause_image)
    images.load()
    return images


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


async def _default(config: Config, programs: Mapping[str, RuntimeProgram]) -> str:
    """Return the default handler: the configured one, else the first that works on this host."""
    if config.runtime.default_runtime:
        return config.runtime.default_runtime
    order = sorted(programs, key=lambda name: CRUN_FIRST.index(name) if name in CRUN_FIRST else len(CRUN_FIRST))
    choice = await choose_default([programs[name] for name in order])
    logger.info("default runtime%s", fields(name=choice.program.name, why=choice.reason))
    return choice.program.name


def own_program(name: str) -> Path:
    """Return a program of crid's own: beside the installed package, or in the source tree. Raises UnavailableError."""
    package = Path(__file__).parent
    for candidate in (package / "libexec" / name, package.parent / "conmon" / name):
        if os.access(candidate, os.X_OK):
            return candidate
    raise UnavailableError(f"crid's own program {name} is not installed; scripts/setup builds it")


def lock_holder(root: Path) -> int | None:
    """Return the pid of whoever holds the lock on the root directory, None if nobody does (proc_locks(5)). Raises OSError."""
    try:
        status = (root / LOCK).stat()
    except FileNotFoundError:
        return None
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5] == file:
            return int(words[4])
    return None


@contextlib.contextmanager
def locked(config: Config) -> Iterator[None]:
    """Hold the locks on the root directory and on the images': two daemons on one store would each believe in half of it
    (flock(2)). Raises AlreadyExistsError naming the directory that another crid uses."""
    with contextlib.ExitStack() as held:
        for root in dict.fromkeys(Path(path) for path in (config.root, config.image.imagestore or config.root)):
            root.mkdir(mode=0o711, parents=True, exist_ok=True)
            descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AlreadyExistsError(f"another crid uses {root}") from error
        yield
