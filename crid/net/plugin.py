"""NetworkPlugin: what crid asks of whatever gives pods their addresses.

`attach` is called once for a pod, in a network namespace that is new and empty but for `lo`. `detach` is called as often
as a client asks, also for a pod whose `attach` failed midway or never ran, and when the namespace is gone: it succeeds
when nothing of the pod is left. `retain` is called once at start, before any `attach`, with the pods that still exist.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from crid.model.sandbox import NetworkAttachment


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """What a plugin may know of a pod."""

    sandbox_id: str
    namespace_path: str
    """Where the pod's network namespace is pinned."""
    pod_name: str = ""
    pod_namespace: str = ""
    pod_uid: str = ""
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkCondition:
    """Whether pods can be given a network; `reason` is a CamelCase word, `message` is for people."""

    ready: bool
    reason: str = ""
    message: str = ""


class NetworkPlugin(ABC):
    """One way to give pods their network. Raises UnavailableError where the kernel or a program did not serve, and
    ResourceExhaustedError where no address is left; what it did before is undone first."""

    @abstractmethod
    async def attach(self, pod: PodNetwork) -> NetworkAttachment:
        """Connect the pod and return its addresses."""

    @abstractmethod
    async def detach(self, pod: PodNetwork) -> None:
        """Remove whatever the pod was given. Idempotent."""

    @abstractmethod
    async def retain(self, sandbox_ids: Collection[str]) -> None:
        """Release what belongs to any other pod."""

    @abstractmethod
    def condition(self) -> NetworkCondition:
        """Say whether pods can be connected now."""


def default_resolv_conf() -> Path:
    """Return the host's resolver configuration: the one with real servers where systemd-resolved's stub is in place."""
    upstream = Path("/run/systemd/resolve/resolv.conf")
    return upstream if upstream.exists() else Path("/etc/resolv.conf")
