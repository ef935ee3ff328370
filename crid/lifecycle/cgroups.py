"""Which cgroup a pod and its containers live in, by either cgroup driver.

The kubelet names a parent for each pod and looks after it. Without one (crictl, tests) crid makes a parent of its own for
the pod, limits it as the pod asks, and removes it with the pod: the directory `/crid/<pod id>`, or where systemd rules the
cgroups `crid-<pod id>.slice` (crid.lifecycle.slices). A daemon with another run directory than the default one has another
name than `crid` there (`own_name`), so that each knows which of them are its own.
"""

import errno
import logging
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from crid.cgroup import naming
from crid.cgroup.hierarchy import Hierarchy
from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, UnavailableError
from crid.log import fields
from crid.model.container import Container
from crid.model.ids import short
from crid.model.process import ProcessIdentity
from crid.model.resources import check_pod_resources, pod_resources
from crid.model.sandbox import SandboxMetadata
from crid.model.stats import CgroupStats

logger = logging.getLogger(__name__)

PAUSE = "crid-pause"
"""The name of the leaf cgroup of a pod's pause process."""
_NOT_TAKEN = (errno.EINVAL, errno.ERANGE, errno.ENOENT)
"""What the kernel says to a value that means nothing to it, and to a file that it does not have."""
_DEFAULT_RUN_ROOT = "/var/run/crid"


def own_name(run_root: Path) -> str:
    """Return what the cgroup or slice of the pods of a daemon with that run directory is called."""
    path = os.path.realpath(run_root)
    return "crid" if path == os.path.realpath(_DEFAULT_RUN_ROOT) else f"crid_{zlib.crc32(os.fsencode(path)):08x}"


def own_parent(driver: str, name: str) -> str:
    """Return the cgroup in which the pods are whose parent crid chose, as the driver names it."""
    return f"{name}.slice" if driver == "systemd" else f"/{name}"


class PodCgroups(ABC):
    """What one driver does for pods. All verbs for removing are idempotent."""

    driver: str
    """Its name in the configuration."""
    lifts_quotas = True
    """Whether `lift_quota` is to be used; where systemd keeps the quotas the OCI runtime tells it that there is none."""

    def __init__(self, hierarchy: Hierarchy, name: str = "crid") -> None:
        """`name` is that of the cgroup or slice in which the pods are whose parent crid chooses."""
        self.hierarchy = hierarchy
        self.name = name

    def check_parent(self, parent: str, min_memory: int) -> None:
        """Refuse a cgroup parent that the driver cannot have (InvalidArgumentError), or in which, with less than `min_memory`
        bytes, nothing could be started (FailedPreconditionError)."""
        if not parent:
            return
        path = naming.resolve(naming.valid_parent(parent, self.driver))
        if (limit := self.hierarchy.memory_limit(path)) is not None and limit < min_memory:
            raise FailedPreconditionError(
                f"cgroup parent {parent!r}: a memory limit of {limit} is below the runtime's least, {min_memory}"
            )

    def parent(self, asked: str, sandbox_id: str) -> str:
        """Return the pod's cgroup: what was asked for, or one of crid's own."""
        return asked or self._own_parent(sandbox_id)

    @abstractmethod
    def _own_parent(self, sandbox_id: str) -> str: ...

    def container_path(self, sandbox: SandboxMetadata, container_id: str) -> str:
        """Return the container's linux.cgroupsPath."""
        return naming.container_path(sandbox.cgroup_parent, container_id, self.driver)

    async def prepare(self, sandbox: SandboxMetadata, files: Mapping[str, str]) -> None:
        """Make the pod's cgroup and give it the pod's limits, if it is crid's own and there are any; then set these `files` of
        it, by names of cgroup v2, whoever's it is: the pod asks for them, and its client does not know of them.

        Raises UnavailableError if they cannot be set, InvalidArgumentError naming the field, or the file, if no kernel takes
        them, or this one does not.
        """
        linux = sandbox.config.linux
        check_pod_resources(linux.overhead, linux.resources)
        if linux.HasField("resources") or linux.HasField("overhead"):
            await self.limit(sandbox, pod_resources(linux.overhead, linux.resources))
        if files:
            was_there = self.hierarchy.exists(naming.resolve(sandbox.cgroup_parent))
            try:
                await self._set(sandbox, cri.LinuxContainerResources(unified=files))
            except CridError:
                if not was_there:
                    await self._remove_parent(sandbox.cgroup_parent)
                raise

    async def limit(self, sandbox: SandboxMetadata, resources: cri.LinuxContainerResources) -> bool:
        """Set limits of the pod's cgroup, all or none, and return True, if the cgroup is crid's own; raises as `prepare`.

        A cgroup that the client named is the client's to limit: for that nothing is done.
        """
        if sandbox.config.linux.cgroup_parent:
            return False
        await self._set(sandbox, resources)
        return True

    async def _set(self, sandbox: SandboxMetadata, resources: cri.LinuxContainerResources) -> None:
        try:
            await self._limit(sandbox.cgroup_parent, resources)
        except OSError as error:
            kind = InvalidArgumentError if error.errno in _NOT_TAKEN else UnavailableError
            raise kind(f"pod {sandbox.name}: its cgroup cannot be limited: {error}") from error

    @abstractmethod
    async def _limit(self, parent: str, resources: cri.LinuxContainerResources) -> None: ...

    def check_devices(self, container: Container) -> None:
        """Refuse a created container whose process is not in the cgroup with the container's device rules (UnavailableError).

        Where systemd rules cgroups of v1 it moves processes between them, too: no device would be closed to this one.
        """
        process = container.status.process
        found = self.hierarchy.device_rules_of(process.pid) if process is not None else None
        if found is not None and container.id not in found:
            raise UnavailableError(
                f"container {short(container.id)}: its process has the device rules of cgroup {found!r}, not its own"
            )

    def lift_quota(self, container: Container, period: int) -> None:
        """Let a container have the CPUs without a quota; a period of 0 is the kernel's. Raises UnavailableError."""
        try:
            unlimited = cri.LinuxContainerResources(cpu_quota=-1, cpu_period=period)
            self.hierarchy.limit(naming.resolve(container.metadata.cgroup_path), unlimited)
        except OSError as error:
            raise UnavailableError(f"container {container.id}: its CPU quota cannot be lifted: {error}") from error

    def limit_huge_pages(self, container: Container, limits: Mapping[str, int]) -> None:
        """Set a container's limits of huge pages, in bytes by the size's name. Raises UnavailableError.

        runc's update passes over them, and systemd has no property for them.
        """
        pages = [cri.HugepageLimit(page_size=size, limit=limit) for size, limit in limits.items()]
        try:
            resources = cri.LinuxContainerResources(hugepage_limits=pages)
            self.hierarchy.limit(naming.resolve(container.metadata.cgroup_path), resources)
        except OSError as error:
            raise UnavailableError(f"container {container.id}: its huge pages cannot be limited: {error}") from error

    @abstractmethod
    def pause_procs(self, sandbox: SandboxMetadata) -> list[str]:
        """Return the files, if any, through which the pod's pause process enters its cgroup. Raises UnavailableError."""

    @abstractmethod
    async def place_pause(self, sandbox: SandboxMetadata, process: ProcessIdentity) -> None:
        """Put the pause process, which has started, into its cgroup, if it is not there yet. Raises UnavailableError."""

    @abstractmethod
    async def remove_pause(self, sandbox: SandboxMetadata) -> None:
        """Remove the cgroup of the pause process, which has ended."""

    def sandbox_stats(self, sandbox: SandboxMetadata) -> CgroupStats:
        """Read the accounting of the pod's cgroup. Raises OSError or NotFoundError where there is none."""
        return self.hierarchy.stats(naming.resolve(sandbox.cgroup_parent))

    async def remove_parent(self, sandbox: SandboxMetadata) -> None:
        """Remove the pod's cgroup if crid chose it; a cgroup of the client's is left alone. A failure is logged."""
        if not sandbox.config.linux.cgroup_parent:
            await self._remove_parent(sandbox.cgroup_parent)

    async def remove_own(self, sandbox_id: str) -> None:
        """Remove the cgroup that crid would have chosen for the pod, which need not have a record. A failure is logged."""
        await self._remove_parent(self._own_parent(sandbox_id))

    async def remove_all(self) -> None:
        """Remove the cgroup in which the pods are whose parent crid chose. A failure is logged."""
        await self._remove_parent(own_parent(self.driver, self.name))

    @abstractmethod
    async def remove_stray_pause(self, sandbox_id: str, path: str) -> None:
        """Remove the cgroup of the pause process, which has ended, of a pod that may have no record. `path` is the one that it
        was in."""

    @abstractmethod
    async def _remove_parent(self, parent: str) -> None: ...

    async def _remove(self, path: str) -> None:
        try:
            await self.hierarchy.remove_async(path)
        except OSError as error:
            logger.warning("cannot remove a pod's cgroup%s", fields(cgroup=path, error=os.strerror(error.errno or 0)))


class PodDirectories(PodCgroups):
    """The driver `cgroupfs`: crid makes directories below the hierarchy's root."""

    driver = "cgroupfs"

    def _own_parent(self, sandbox_id: str) -> str:
        return f"/{self.name}/{sandbox_id}"

    async def _limit(self, parent: str, resources: cri.LinuxContainerResources) -> None:
        path = naming.resolve(parent)
        self.hierarchy.create(path)
        self.hierarchy.limit(path, resources)

    def pause_procs(self, sandbox: SandboxMetadata) -> list[str]:
        """Make a leaf of its own for it: on v2 a pod's cgroup, whose children have controllers, takes no processes."""
        path = self._pause_path(sandbox)
        try:
            self.hierarchy.create(path)
        except OSError as error:
            raise UnavailableError(f"pod {sandbox.name}: the cgroup of its pause process cannot be made: {error}") from error
        return [f"{directory}/cgroup.procs" for directory in self.hierarchy.directories(path)]

    async def place_pause(self, sandbox: SandboxMetadata, process: ProcessIdentity) -> None:
        """It has been there from its first instruction."""

    async def remove_pause(self, sandbox: SandboxMetadata) -> None:
        """Remove the leaf."""
        await self._remove(self._pause_path(sandbox))

    async def remove_stray_pause(self, sandbox_id: str, path: str) -> None:
        """Remove the leaf."""
        if path.endswith(f"/{PAUSE}"):
            await self._remove(path)

    def _pause_path(self, sandbox: SandboxMetadata) -> str:
        return f"{naming.resolve(sandbox.cgroup_parent)}/{PAUSE}"

    async def _remove_parent(self, parent: str) -> None:
        await self._remove(naming.resolve(parent))
