"""Pods' cgroups where systemd rules them: slices, and scopes in them.

What systemd makes it also removes: a slice is stopped, never removed behind its back. Limits are told to systemd first,
which would else undo them with its next change, and then written to the kernel, which has some that systemd does not know.
"""

import logging

from crid.cgroup import naming
from crid.cgroup.hierarchy import Hierarchy
from crid.cgroup.properties import slice_properties
from crid.cgroup.systemd import Systemd
from crid.cri import api_pb2 as cri
from crid.errors import UnavailableError
from crid.lifecycle.cgroups import PAUSE, PodCgroups
from crid.log import fields
from crid.model.process import ProcessIdentity
from crid.model.sandbox import SandboxMetadata

logger = logging.getLogger(__name__)


class PodSlices(PodCgroups):
    """The driver `systemd`."""

    driver = "systemd"
    lifts_quotas = False

    def __init__(self, hierarchy: Hierarchy, systemd: Systemd, name: str = "crid") -> None:
        super().__init__(hierarchy, name)
        self._systemd = systemd

    def _own_parent(self, sandbox_id: str) -> str:
        return f"{self.name}-{sandbox_id}.slice"

    async def _limit(self, parent: str, resources: cri.LinuxContainerResources) -> None:
        path = naming.resolve(parent)
        async with self._systemd.limited_slice(parent, slice_properties(resources, self.hierarchy.host_resources())):
            self.hierarchy.create(path)  # systemd gives a slice no controllers before something in it needs them
            self.hierarchy.limit(path, resources)

    def pause_procs(self, sandbox: SandboxMetadata) -> list[str]:
        """None: a scope is made around a process that is there."""
        return []

    async def place_pause(self, sandbox: SandboxMetadata, process: ProcessIdentity) -> None:
        """Make a scope for it."""
        parent = naming.valid_parent(sandbox.cgroup_parent, self.driver)
        await self._systemd.start_scope(_pause_scope(sandbox.id), parent, process.pid, f"pause process of pod {sandbox.name}")

    async def remove_pause(self, sandbox: SandboxMetadata) -> None:
        """Stop the scope, which systemd also ends by itself, but later."""
        await self._stop(_pause_scope(sandbox.id))

    async def remove_stray_pause(self, sandbox_id: str, path: str) -> None:
        """Stop the scope, as `remove_pause`."""
        await self._stop(_pause_scope(sandbox_id))

    async def _remove_parent(self, parent: str) -> None:
        await self._stop(parent)
        await self._remove(naming.resolve(parent))

    async def _stop(self, unit: str) -> None:
        try:
            await self._systemd.stop(unit)
        except UnavailableError as error:
            logger.warning("cannot stop a pod's unit%s", fields(unit=unit, error=error))


def _pause_scope(sandbox_id: str) -> str:
    return f"{PAUSE}-{sandbox_id}.scope"
