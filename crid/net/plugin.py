"""NetworkPlugin: what crid asks of whatever gives pods their addresses.

`attach` is called once for a pod, in a network namespace that is new and empty but for `lo`. `detach` is called as often
as a client asks, also for a pod whose `attach` failed midway or never ran, and when the namespace is gone: it succeeds
when nothing of the pod is left. `retain` is called once at start, before any `attach`, with the pods that still exist.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crid.model.sandbox import NetworkAttachment
from crid.net.addresses import Address


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host that leads into a pod. `protocol` is tcp, udp or sctp; without `host_ip` every address of the
    host is meant, of both families."""

    protocol: str
    host_port: int
    container_port: int
    host_ip: Address | None = None

    def __str__(self) -> str:
        host = f"[{self.host_ip}]" if self.host_ip and self.host_ip.version == 6 else (self.host_ip or "*")
        return f"{host}:{self.host_port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Dns:
    """The pod's resolver configuration, for plugins that want to know."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


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
    port_mappings: tuple[PortMapping, ...] = ()
    dns: Dns = Dns()
    cgroup_parent: str = ""
    attachment: NetworkAttachment = field(default_factory=NetworkAttachment)
    """What `attach` gave to the pod, once it did."""

    @property
    def title(self) -> str:
        """The pod as a person knows it, and its id."""
        return f"{self.pod_namespace}/{self.pod_name} ({self.sandbox_id[:13]})"


@dataclass(frozen=True, slots=True)
class NetworkCondition:
    """Whether pods can be given a network; `reason` is a CamelCase word, `message` is for people."""

    ready: bool
    reason: str = ""
    message: str = ""


class NetworkPlugin(ABC):
    """One way to give pods their network. Raises UnavailableError where the kernel or a program did not serve,
    DeadlineExceededError where a program did not end in time, ResourceExhaustedError where no address is left, and
    FailedPreconditionError where a host port is another pod's; what it did before is undone first."""

    @abstractmethod
    async def attach(self, pod: PodNetwork) -> NetworkAttachment:
        """Connect the pod and return its addresses."""

    @abstractmethod
    async def detach(self, pod: PodNetwork) -> None:
        """Remove whatever the pod was given. Idempotent."""

    @abstractmethod
    async def retain(self, pods: Collection[PodNetwork]) -> None:
        """Restore what these pods have, as far as somebody destroyed it, and release what belongs to any other pod."""

    @abstractmethod
    def condition(self) -> NetworkCondition:
        """Say whether pods can be connected now."""

    def use_ranges(self, subnets: Sequence[str]) -> None:  # noqa: B027  # most networks have a configuration of their own
        """Take note of the subnets (CIDR) that the cluster gave to this node's pods."""


def default_resolv_conf() -> Path:
    """Return the host's resolver configuration: the one with real servers where systemd-resolved's stub is in place."""
    upstream = Path("/run/systemd/resolve/resolv.conf")
    return upstream if upstream.exists() else Path("/etc/resolv.conf")
