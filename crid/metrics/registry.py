"""All metrics of the daemon as one text, in the format that Prometheus asks for.

The library is imported with this package only if metrics are enabled: that costs a tenth of a second.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

import prometheus_client
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

import crid

Source = Callable[[], Iterator[Metric]]


class _Collector(Collector):
    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        return self._source()


class Registry:
    """The collectors that are wanted."""

    def __init__(self, sources: Mapping[str, Source], wanted: Collection[str]) -> None:
        """`sources` are by their names in the configuration; "process" is the library's own, of this process."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(_info))
        for name, source in sources.items():
            if name in wanted:
                self._registry.register(_Collector(source))
        if "process" in wanted:
            prometheus_client.ProcessCollector(registry=self._registry)

    async def render(self) -> tuple[str, bytes]:
        """Return the content type and the text. On the event loop: what is read belongs to it."""
        return prometheus_client.CONTENT_TYPE_PLAIN_0_0_4, prometheus_client.generate_latest(self._registry)


def _info() -> Iterator[Metric]:
    yield InfoMetricFamily("crid", "The daemon.", {"version": crid.__version__})
