"""Where containers' monitors run: with the daemon, in a leaf of the pod's cgroup, or in a systemd scope of their own.

With the daemon is the default: their memory is not the pod's then, and nothing is to be made or removed. In the pod's cgroup
they are accounted to the pod, and get the CPUs of `infra_ctr_cpuset` and the limits that the pod's workload has for "POD".
A monitor is moved before it forks anything, and the OCI runtime moves the container on to its own cgroup.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from crid.cgroup import naming
from crid.cgroup.hierarchy import Hierarchy
from crid.cgroup.properties import Property, slice_properties
from crid.cri import api_pb2 as cri
from crid.errors import UnavailableError
from crid.log import fields
from crid.model import cpus
from crid.model.container import Container
from crid.model.ids import short
from crid.model.sandbox import PodSandbox
from crid.oci.placement import Placement
from crid.oci.spec import workloads
from crid.oci.spec.systemd import SERVICE
from crid.oci.spec.workloads import Workload
from crid.store.memory import Storer

logger = logging.getLogger(__name__)

POD = "pod"
IGNORED_SIGNAL = 13
"""SIGPIPE, which monitors ignore: what systemd sends to a scope at a shutdown must not end them before their containers."""


class Scopes(Protocol):
    """systemd, as far as it makes scopes."""

    async def start_scope(
        self, name: str, slice_: str, pid: int, description: str, properties: Mapping[str, Property] | None = None
    ) -> None:
        """Put process `pid` into a new scope. Raises UnavailableError."""

    async def stop(self, name: str) -> None:
        """End a unit; one that is not there is no error. Raises UnavailableError."""


class Monitors(Placement):
    """Of one runtime handler. `where` is "", "pod" or, with the systemd driver, a slice; so is it always with a scope."""

    def __init__(
        self,
        hierarchy: Hierarchy,
        sandboxes: Storer[PodSandbox],
        scopes: Scopes | None,
        *,
        where: str,
        exec_in_container: bool,
        infra_cpus: frozenset[int],
        workloads: Sequence[Workload],
    ) -> None:
        """`scopes` is None with the cgroupfs driver."""
        self._hierarchy = hierarchy
        self._sandboxes = sandboxes
        self._scopes = scopes
        self._where = where
        self.exec_in_container = exec_in_container
        self._infra_cpus = infra_cpus
        self._workloads = tuple(workloads)

    def __repr__(self) -> str:
        return f"<Monitors where={self._where!r} scopes={self._scopes!r}>"

    def unit(self, container_id: str) -> str:
        """Return the systemd unit of a container's monitor, empty for none."""
        return f"{naming.monitor_name(container_id)}.scope" if self._where and self._scopes is not None else ""

    async def place_monitor(self, container: Container, pid: int) -> None:
        if not self._where:
            return
        metadata = container.metadata
        try:
            if self._scopes is not None:
                slice_ = metadata.cgroup_path.partition(":")[0] if self._where == POD else self._where
                words = f"monitor of container {metadata.name}"
                await self._scopes.start_scope(self.unit(container.id), slice_, pid, words, self._properties(container))
                return
            path = naming.monitor_path(metadata.cgroup_path, container.id)
            self._hierarchy.create(path)
            self._hierarchy.limit(path, self._limits(container))
            self._hierarchy.add_process(path, pid)
        except OSError as error:
            raise UnavailableError(f"its monitor cannot be put into a cgroup: {error}") from error

    def place_exec(self, container: Container, pid: int) -> None:
        first = container.status.process
        path = self._hierarchy.path_of(first.pid) if first is not None else None
        if path is None:
            raise UnavailableError(f"container {short(container.id)} has ended")
        try:
            self._hierarchy.add_process(path, pid)
        except OSError as error:
            raise UnavailableError(
                f"container {short(container.id)}: a command's monitor cannot be put into its cgroup: {error}"
            ) from error

    async def remove(self, container: Container) -> None:
        if not self._where:
            return
        if self._scopes is None:
            if container.metadata.cgroup_path:
                await self._hierarchy.remove_async(naming.monitor_path(container.metadata.cgroup_path, container.id))
            return
        try:  # systemd also ends it by itself, but later
            await self._scopes.stop(self.unit(container.id))
        except UnavailableError as error:
            logger.warning("cannot stop a monitor's unit%s", fields(container=short(container.id), error=error))

    def _limits(self, container: Container) -> cri.LinuxContainerResources:
        """Return the limits of a monitor in its pod's cgroup; elsewhere they would be those of others, too."""
        limits = cri.LinuxContainerResources(cpuset_cpus=cpus.to_list(self._infra_cpus))
        sandbox = self._sandboxes.find(container.metadata.sandbox_id)
        annotations = sandbox.metadata.config.annotations if sandbox is not None else {}
        workload = workloads.of(self._workloads, annotations)
        return limits if workload is None else workloads.limited(workload, annotations, workloads.MONITOR, limits)

    def _properties(self, container: Container) -> dict[str, Property]:
        """Return the scope's properties by systemd's names; in a slice of the administrator's it has no limits of its own."""
        limits = self._limits(container) if self._where == POD else cri.LinuxContainerResources()
        return {
            "After": ("as", [SERVICE]),
            "KillSignal": ("i", IGNORED_SIGNAL),
            "DefaultDependencies": ("b", True),
            **slice_properties(limits, self._hierarchy.host_resources()),
        }
