"""How the providers are built out of the configuration and the machine; `crid.daemon` ties them to the use cases."""

import asyncio
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crid.assembly import host_tuning, hosts, programs, resources
from crid.assembly.places import places
from crid.cgroup import naming
from crid.cgroup.detect import detect
from crid.cgroup.hierarchy import Hierarchy
from crid.config import Config, NetworkConfig, NriConfig, seconds
from crid.events.broadcast import Broadcast
from crid.image.service import ImageService
from crid.lifecycle import labels
from crid.lifecycle.check.gather import Places
from crid.lifecycle.event_hooks import EventHooks, PodEvent
from crid.lifecycle.hooks import Hooks
from crid.lifecycle.id_ranges import IdRangeAllocator
from crid.lifecycle.listeners import Listeners
from crid.lifecycle.monitors import Monitors
from crid.lifecycle.nri_hooks import NriHooks
from crid.lifecycle.parts import Parts
from crid.lifecycle.seccomp_notifier import SeccompNotifier
from crid.linux.kernel import Linux
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from crid.net.bridge import BridgeNetwork
from crid.net.choice import ChosenNetwork
from crid.net.cni import CniNetwork
from crid.nri.plugin import Timeouts
from crid.oci.cdi import CdiDevices
from crid.oci.exits import Exits as ExitNotices
from crid.oci.hooks import HookDirectories
from crid.oci.probe import RuntimeFeatures
from crid.oci.program import RuntimePaths, RuntimeProgram
from crid.oci.runtime import Runtime
from crid.oci.runtime_oci import RuntimeOCI
from crid.oci.spec.inputs import Host
from crid.store.memory import MemoryStore
from crid.store.names import NameRegistry
from crid.store.state import StateStore
from crid.tasks import Supervisor

logger = logging.getLogger(__name__)

_CLOSE_GRACE = 1.0
"""Seconds for what a plugin was being told."""


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


async def build_providers(config: Config, supervisor: Supervisor) -> Providers:
    """Build everything below the use cases.

    Raises UnavailableError or InvalidArgumentError if the machine lacks a part, FailedPreconditionError, with nothing
    touched, if a newer crid wrote the records.
    """
    root, run_root = Path(config.root), Path(config.runroot)
    state = StateStore(root, run_root)
    state.refuse_newer()
    paths = _directories(root, run_root)
    kernel, hierarchy = Linux(), detect()
    cgroups = await resources.pod_cgroups(config, hierarchy)
    containers: MemoryStore[Container] = MemoryStore("container")
    sandboxes: MemoryStore[PodSandbox] = MemoryStore("pod sandbox")
    runtimes = await programs.probe(config, kernel)
    machines = await hosts.gather(config, hierarchy.host_resources(), runtimes.features)
    monitors = {name: resources.monitors(config, name, hierarchy, sandboxes) for name in runtimes.programs}
    implementations = {
        name: _runtime(program, paths, hierarchy, monitors[name], supervisor) for name, program in runtimes.programs.items()
    }
    images = image_service(config, supervisor)
    if any(host.selinux for host in machines.values()):
        await asyncio.to_thread(labels.prepare_layers, str(images.layer_directories[0]))
    network = _network(config.network, root / "network")
    await network.start()
    cdi, oci_hooks = CdiDevices(config.runtime.cdi_spec_dirs), HookDirectories(config.runtime.hooks_dir)
    await asyncio.to_thread(oci_hooks.get)  # so that the log says at once which of them do not count
    classes = await asyncio.to_thread(host_tuning.classes, config.runtime, run_root)
    plugins = Supervisor("plugins")
    nri = None
    if config.nri.enable_nri:
        nri = NriHooks(sandboxes, containers, plugins, _timeouts(config.nri), cdi.edits, classes)
    events: Broadcast[PodEvent] = Broadcast()
    notifier = SeccompNotifier(run_root / "seccomp", sandboxes, state, machines, supervisor)
    told: list[Hooks] = [EventHooks(sandboxes, containers, events), notifier, *([nri] if nri is not None else [])]
    listeners = Listeners(plugins, *told)
    parts = Parts(
        supervisor=supervisor,
        run_root=run_root,
        kernel=kernel,
        runtime=Runtime(implementations, runtimes.default),
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
        pause_program=programs.own_program("crid-pause"),
        userns_program=programs.own_program("crid-userns"),
        pids_limit=config.runtime.pids_limit,
        id_ranges=_id_ranges(config, sandboxes, machines),
        tuning=resources.tuning(config, hierarchy, sandboxes, machines, supervisor),
        monitors=monitors,
        classes=classes,
        cdi=cdi,
        oci_hooks=oci_hooks,
        hooks=listeners,
    )
    exits = ExitNotices(paths.exits, containers.find)
    found_at = places(config, runtimes.programs.values(), hierarchy)
    return Providers(parts, runtimes.features, exits, network, found_at, listeners, events, notifier, nri, plugins)


def _directories(root: Path, run_root: Path) -> RuntimePaths:
    """Make the directories that everything below starts from; return those that monitors write into."""
    paths = RuntimePaths(exits=run_root / "exits", attach_sockets=run_root / "attach")
    for directory in (root, run_root, run_root / "pods", run_root / "containers", paths.exits, paths.attach_sockets):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    return paths


def _runtime(
    program: RuntimeProgram, paths: RuntimePaths, hierarchy: Hierarchy, placement: Monitors, supervisor: Supervisor
) -> RuntimeOCI:
    return RuntimeOCI(
        program,
        paths,
        supervisor,
        read_stats=lambda path: hierarchy.stats(naming.resolve(path)),
        remove_cgroup=lambda path: hierarchy.remove_async(naming.resolve(path)),
        placement=placement,
    )


def _id_ranges(config: Config, sandboxes: MemoryStore[PodSandbox], machines: Mapping[str, Host]) -> IdRangeAllocator:
    default = next((host.policy.default_user_namespace for host in machines.values()), None)
    return IdRangeAllocator(sandboxes, config.runtime.root_auto_userns_user, default)


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
