"""Which cgroup a pod and its containers live in.

The kubelet names a parent for each pod and looks after it. Without one (crictl, tests) crid makes a parent of its own for
the pod, `/crid/<pod id>` or `crid-<pod id>.slice`, limits it as the pod asks, and removes it with the pod.
"""

import logging
import os

from crid.cgroup import naming
from crid.cgroup.hierarchy import Hierarchy
from crid.cri import api_pb2 as cri
from crid.errors import UnavailableError
from crid.log import fields
from crid.model.resources import check_pod_resources, pod_resources
from crid.model.sandbox import SandboxMetadata
from crid.model.stats import CgroupStats

logger = logging.getLogger(__name__)

PAUSE = "crid-pause"
"""The name of the leaf cgroup of a pod's pause process."""


class PodCgroups:
    """The naming rules of one driver, `cgroupfs` or `systemd`, over one hierarchy."""

    def __init__(self, hierarchy: Hierarchy, driver: str) -> None:
        self.hierarchy = hierarchy
        self.driver = driver

    def check_parent(self, parent: str) -> None:
        """Refuse a cgroup parent that the driver cannot have. Raises InvalidArgumentError."""
        if parent:
            naming.valid_parent(parent, self.driver)

    def parent(self, asked: str, sandbox_id: str) -> str:
        """Return the pod's cgroup: what was asked for, or one of crid's own."""
        if asked:
            return asked
        return f"crid-{sandbox_id}.slice" if self.driver == "systemd" else f"/crid/{sandbox_id}"

    def container_path(self, sandbox: SandboxMetadata, container_id: str) -> str:
        """Return the container's linux.cgroupsPath."""
        return naming.container_path(sandbox.cgroup_parent, container_id, self.driver)

    def prepare(self, sandbox: SandboxMetadata) -> None:
        """Make the pod's cgroup and give it the pod's limits, if it is crid's own and there are any.

        Raises UnavailableError if the kernel does not take them, InvalidArgumentError naming the field if no kernel would.
        """
        linux = sandbox.config.linux
        check_pod_resources(linux.overhead, linux.resources)
        if linux.HasField("resources") or linux.HasField("overhead"):
            self.limit(sandbox, pod_resources(linux.overhead, linux.resources))

    def limit(self, sandbox: SandboxMetadata, resources: cri.LinuxContainerResources) -> bool:
        """Set limits of the pod's cgroup, all or none, and return True, if the cgroup is crid's own; raises as `prepare`.

        A cgroup that the client named is the client's to limit, and a slice is systemd's: for them nothing is done.
        """
        if sandbox.config.linux.cgroup_parent or self.driver == "systemd":
            return False
        path = naming.resolve(sandbox.cgroup_parent)
        try:
            self.hierarchy.create(path)
            self.hierarchy.limit(path, resources)
        except OSError as error:
            raise UnavailableError(f"pod {sandbox.name}: its cgroup cannot be limited: {error}") from error
        return True

    def pause_procs(self, sandbox: SandboxMetadata) -> list[str]:
        """Make the leaf cgroup of the pod's pause process, and return the files through which that enters it.

        A leaf of its own, since on v2 a pod's cgroup, whose children have controllers, takes no processes. With the
        systemd driver there is none: below a slice only systemd makes cgroups. Raises UnavailableError.
        """
        if self.driver == "systemd":
            return []
        path = self._pause_path(sandbox)
        try:
            self.hierarchy.create(path)
        except OSError as error:
            raise UnavailableError(f"pod {sandbox.name}: the cgroup of its pause process cannot be made: {error}") from error
        return [f"{directory}/cgroup.procs" for directory in self.hierarchy.directories(path)]

    async def remove_pause(self, sandbox: SandboxMetadata) -> None:
        """Remove the leaf cgroup of the pause process, which has ended. Idempotent."""
        if self.driver != "systemd":
            await self._remove(self._pause_path(sandbox))

    def _pause_path(self, sandbox: SandboxMetadata) -> str:
        return f"{naming.resolve(sandbox.cgroup_parent)}/{PAUSE}"

    def sandbox_stats(self, sandbox: SandboxMetadata) -> CgroupStats:
        """Read the accounting of the pod's cgroup. Raises OSError or NotFoundError where there is none."""
        return self.hierarchy.stats(naming.resolve(sandbox.cgroup_parent))

    async def remove_parent(self, sandbox: SandboxMetadata) -> None:
        """Remove the pod's cgroup if crid chose it; a cgroup of the client's is left alone."""
        if sandbox.config.linux.cgroup_parent:
            return
        await self._remove(naming.resolve(sandbox.cgroup_parent))

    async def _remove(self, path: str) -> None:
        try:
            await self.hierarchy.remove_async(path)
        except OSError as error:
            logger.warning("cannot remove a pod's cgroup%s", fields(cgroup=path, error=os.strerror(error.errno or 0)))
