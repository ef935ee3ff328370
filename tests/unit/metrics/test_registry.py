"""The text that Prometheus gets."""

from collections.abc import Iterator

import prometheus_client
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

import crid
from crid.metrics.registry import Registry


def gauge(name: str) -> Iterator[Metric]:
    yield GaugeMetricFamily(name, f"What {name} is.", 7)


async def test_only_what_is_wanted_is_asked() -> None:
    asked = []

    def source(name: str) -> Iterator[Metric]:
        asked.append(name)
        return gauge(name)

    registry = Registry({"a": lambda: source("a"), "b": lambda: source("b")}, {"b"})
    kind, text = await registry.render()
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert families.keys() == {"b", "crid_info"}
    assert families["b"].samples[0].value == 7
    assert asked == ["b"]
    assert kind == prometheus_client.CONTENT_TYPE_PLAIN_0_0_4


async def test_the_version_is_always_there_and_the_process_if_wanted() -> None:
    _, text = await Registry({}, {"process"}).render()
    assert f'crid_info{{version="{crid.__version__}"}} 1.0' in text.decode()
    assert "process_resident_memory_bytes" in text.decode()
    _, without = await Registry({}, set()).render()
    assert "process_" not in without.decode()
