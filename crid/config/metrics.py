"""`[crid.metrics]`: the daemon's own metrics."""

import ipaddress
from dataclasses import dataclass, field

from crid.config.values import check_path
from crid.errors import InvalidArgumentError

COLLECTORS = (
    "operations",
    "abandoned_requests",
    "pods",
    "containers",
    "containers_oom",
    "monitors_lost",
    "images",
    "image_pulled_bytes",
    "events",
    "seccomp_notifications",
    "processes_defunct",
    "process",
)
"""What `metrics_collectors` may name: each is one or a few series (docs/metrics.md)."""


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """`[crid.metrics]`. They are served on a port or, if `metrics_socket` is a path, there instead. With a certificate and its
    key a port speaks TLS. `metrics_collectors` are some of COLLECTORS, or "all" alone."""

    enable_metrics: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9090
    metrics_socket: str = ""
    metrics_cert: str = ""
    metrics_key: str = ""
    metrics_collectors: list[str] = field(default_factory=lambda: ["all"])

    def collectors(self) -> frozenset[str]:
        """Return the collectors, "all" written out."""
        return frozenset(COLLECTORS if self.metrics_collectors == ["all"] else self.metrics_collectors)

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        try:
            ipaddress.ip_address(self.metrics_host)
        except ValueError as error:
            raise InvalidArgumentError(f"crid.metrics.metrics_host: {error}") from error
        if not 0 <= self.metrics_port < 65536:
            raise InvalidArgumentError("crid.metrics.metrics_port: must be a port number, or 0 for a free one")
        for key in ("metrics_socket", "metrics_cert", "metrics_key"):
            check_path(f"crid.metrics.{key}", getattr(self, key))
        if "all" in self.metrics_collectors and len(self.metrics_collectors) > 1:
            raise InvalidArgumentError('crid.metrics.metrics_collectors: "all" must stand alone')
        if unknown := sorted(self.collectors() - set(COLLECTORS)):
            raise InvalidArgumentError(
                f"crid.metrics.metrics_collectors: {unknown[0]!r} is none of all, {', '.join(COLLECTORS)}"
            )
