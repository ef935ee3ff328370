"""A container as crid knows it: the CRI's message, what crid added when it created it, and what has happened since.

The state is derived from facts, never stored beside them, so a container that is "running" and has finished cannot be
written down:

    created_at set -> CREATED -> started_at set -> RUNNING <-> paused -> finished_at set -> STOPPED

A container whose facts are missing (its record is older than its creation, or damaged) is UNKNOWN.
"""

import enum
from dataclasses import dataclass, field
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.model.process import ProcessIdentity
from crid.model.tracked import Tracked


class ContainerState(enum.Enum):
    """What a container is doing; PAUSED is shown to CRI clients as running, as CRI-O does."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


EXIT_CODE_UNKNOWN = 255
"""The exit code reported when the real one was lost (CRI-O's choice too)."""

MONITOR_LOST = "MonitorLost"
"""The reason in the status of a container whose monitor died before it: nobody can tell the exit code."""
UNREPORTED = "Unknown"
"""The reason in the status of a container that has ended, and whose monitor has not said how."""


@dataclass(frozen=True, slots=True)
class ContainerMetadata:
    """What is fixed when the container is created. Paths are absolute; times are nanoseconds since the epoch."""

    id: str
    name: str
    """The reserved name `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`."""
    sandbox_id: str
    config: cri.ContainerConfig
    """As received; nobody changes it."""
    runtime_handler: str
    """The handler's name in the configuration, resolved: never empty."""
    image_id: str
    image_ref: str
    """A repo digest of the image, or its id where it has none."""
    created_at: int
    bundle: Path
    """The OCI bundle, below the run directory: config.json, rootfs, the monitor's pid files and sockets."""
    persist_directory: Path
    """Survives a reboot: the record, the writable layer, the monitor's copy of the exit code."""
    log_path: str
    """Where the monitor writes the container's log; empty if nobody asked for one."""
    cgroup_path: str
    """The container's cgroup as the OCI spec's linux.cgroupsPath names it."""
    stop_signal: str = "SIGTERM"
    user: cri.ContainerUser = field(default_factory=cri.ContainerUser)
    mounts: tuple[cri.Mount, ...] = ()
    """The mounts to report in the status."""
    boot: str = ""
    """The boot of the machine in which it was made, as a pod's."""

    @property
    def stdin(self) -> bool:
        """Whether the container has a standard input that clients may attach to."""
        return self.config.stdin

    @property
    def terminal(self) -> bool:
        """Whether the container's stdio is a terminal."""
        return self.config.tty


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """What has happened to the container. Times are nanoseconds since the epoch, 0 for "not yet"."""

    process: ProcessIdentity | None = None
    monitor: ProcessIdentity | None = None
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    """128 + signal for a signalled process, as shells say it; meaningful once finished."""
    paused: bool = False
    oom_killed: bool = False
    reason: str = ""
    """Set when something other than the process's own exit ended it (a start that failed, a lost exit)."""
    message: str = ""
    resources: cri.LinuxContainerResources | None = None
    """The limits in force after UpdateContainerResources; None while the config's own are in force."""

    @property
    def state(self) -> ContainerState:
        """The state that these facts amount to."""
        if self.finished_at:
            return ContainerState.STOPPED
        if self.started_at:
            return ContainerState.PAUSED if self.paused else ContainerState.RUNNING
        return ContainerState.CREATED if self.created_at else ContainerState.UNKNOWN

    @property
    def exit_lost(self) -> bool:
        """Whether the container has ended and its exit code is made up; a report that comes after all replaces it."""
        return bool(self.finished_at) and self.reason in (MONITOR_LOST, UNREPORTED)


class Container(Tracked[ContainerMetadata, ContainerStatus]):
    """One container."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Container {self.id[:13]} {self._status.state.value} pid={self._status.process and self._status.process.pid}>"
