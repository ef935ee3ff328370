"""Which cgroup a pod and its containers live in.

The kubelet names a parent for each pod and looks after it. Without one (crictl, tests) crid makes a parent of its own for
the pod, `/crid/<pod id>` or `crid-<pod id>.slice`, and removes it with the pod.
"""

import logging
import os

from crid.cgroup import naming
from crid.cgroup.hierarchy import Hierarchy
from crid.log import fields
from crid.model.sandbox import SandboxMetadata
from crid.model.stats import CgroupStats

logger = logging.getLogger(__name__)


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

    def sandbox_stats(self, sandbox: SandboxMetadata) -> CgroupStats:
        """Read the accounting of the pod's cgroup. Raises OSError or NotFoundError where there is none."""
        return self.hierarchy.stats(naming.resolve(sandbox.cgroup_parent))

    async def remove_parent(self, sandbox: SandboxMetadata) -> None:
        """Remove the pod's cgroup if crid chose it; a cgroup of the client's is left alone."""
        if sandbox.config.linux.cgroup_parent:
            return
        try:
            await self.hierarchy.remove_async(naming.resolve(sandbox.cgroup_parent))
        except OSError as error:
            logger.warning(
                "cannot remove a pod's cgroup%s", fields(cgroup=sandbox.cgroup_parent, error=os.strerror(error.errno or 0))
            )
