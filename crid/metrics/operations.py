"""How often each RPC was served, with what status, and how long it took."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.metrics_core import Metric

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0)
"""Seconds: from a list of what is in memory to the longest pull that a kubelet waits for."""


class Operations:
    """Told of every RPC when it has been served (`crid.server.status.Observer`)."""

    def __init__(self) -> None:
        # Or each counter has a second series, which says when it was made.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
        registry = CollectorRegistry()
        self._served = Counter(
            "crid_operations", "RPCs that were served, by the gRPC status they got.", ["operation", "code"], registry=registry
        )
        self._seconds = Histogram(
            "crid_operation_seconds",
            "How long RPCs with one answer took to serve.",
            ["operation"],
            registry=registry,
            buckets=BUCKETS,
        )
        self._registry = registry

    def __call__(self, operation: str, code: str, seconds: float | None) -> None:
        """Count one RPC; `seconds` is None for a stream, which lasts as long as its client wants."""
        self._served.labels(operation, code).inc()
        if seconds is not None:
            self._seconds.labels(operation).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Return the series as they are now."""
        return iter(self._registry.collect())
