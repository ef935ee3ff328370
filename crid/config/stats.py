"""`[crid.stats]`: which statistics are served."""

from dataclasses import dataclass, field

from crid.errors import InvalidArgumentError

METRIC_GROUPS = ("cpu", "memory", "network", "oom", "process", "spec", "disk", "diskIO", "hugetlb", "pressure")
"""What `included_pod_metrics` may name, as in CRI-O."""


@dataclass(frozen=True, slots=True)
class StatsConfig:
    """`[crid.stats]`. `included_pod_metrics` are the groups of series of ListPodSandboxMetrics, or "all" alone."""

    included_pod_metrics: list[str] = field(default_factory=lambda: ["all"])

    def metric_groups(self) -> frozenset[str]:
        """Return the groups, "all" written out."""
        return frozenset(METRIC_GROUPS if self.included_pod_metrics == ["all"] else self.included_pod_metrics)

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        if "all" in self.included_pod_metrics and len(self.included_pod_metrics) > 1:
            raise InvalidArgumentError('crid.stats.included_pod_metrics: "all" must stand alone')
        if unknown := sorted(self.metric_groups() - set(METRIC_GROUPS)):
            raise InvalidArgumentError(
                f"crid.stats.included_pod_metrics: {unknown[0]!r} is none of all, {', '.join(METRIC_GROUPS)}"
            )
