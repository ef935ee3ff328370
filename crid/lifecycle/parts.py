"""The providers that every use case works with, put together once by `crid.daemon`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crid.image.service import ImageService
from crid.lifecycle.cgroups import PodCgroups
from crid.lifecycle.hooks import Hooks, NoHooks
from crid.lifecycle.host_paths import SilentPaths
from crid.lifecycle.id_ranges import IdRangeAllocator
from crid.lifecycle.monitors import Monitors
from crid.lifecycle.tuning import Tuning
from crid.linux.kernel import Kernel
from crid.linux.threads import Threads
from crid.model.container import Container
from crid.model.sandbox import PodSandbox
from crid.net.plugin import NetworkPlugin
from crid.oci.cdi import CdiDevices
from crid.oci.classes import Classes
from crid.oci.hooks import HookDirectories
from crid.oci.runtime import Runtime
from crid.oci.spec.inputs import Host
from crid.store.memory import Storer
from crid.store.names import NameRegistry
from crid.store.state import StateStore
from crid.tasks import Supervisor


@dataclass(frozen=True, slots=True)
class Parts:
    """Who does what. Nothing here is replaced while the daemon runs."""

    supervisor: Supervisor
    run_root: Path
    kernel: Kernel
    runtime: Runtime
    images: ImageService
    network: NetworkPlugin
    cgroups: PodCgroups
    state: StateStore
    sandboxes: Storer[PodSandbox]
    containers: Storer[Container]
    sandbox_names: NameRegistry
    container_names: NameRegistry
    hosts: Mapping[str, Host]
    """What the machine, the daemon's own rights and the runtime handler of that name allow a container to get."""
    hostname: str
    pause_program: Path
    userns_program: Path
    pids_limit: int
    id_ranges: IdRangeAllocator
    tuning: Tuning
    monitors: Mapping[str, Monitors]
    """By runtime handler."""
    classes: Classes = field(default_factory=Classes)
    """Of block I/O and RDT."""
    cdi: CdiDevices = field(default_factory=lambda: CdiDevices(()))
    oci_hooks: HookDirectories = field(default_factory=lambda: HookDirectories(()))
    hooks: Hooks = field(default_factory=NoHooks)
    volume_calls: Threads = field(default_factory=lambda: Threads("crid-volumes", 64))
    """For looks at host paths, whose file server may be gone."""
    silent_paths: SilentPaths = field(default_factory=SilentPaths)
    namespace_calls: Threads = field(default_factory=lambda: Threads("crid-namespaces", 32))
    """For making and giving back namespaces, which wait for a lock of the kernel's that it may hold for long."""

    def host_of(self, container: Container) -> Host:
        """Return what `container` was allowed to get; where its handler is no longer configured what the default one allows."""
        return self.hosts.get(container.metadata.runtime_handler, self.hosts[self.runtime.default])
