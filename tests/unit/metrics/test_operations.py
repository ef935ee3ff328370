"""RPCs counted and timed."""

import pytest
from prometheus_client.metrics_core import Metric

from crid.metrics.operations import Operations


def samples(operations: Operations) -> dict[str, float]:
    found: list[Metric] = list(operations.collect())
    return {f"{sample.name} {' '.join(sample.labels.values())}": sample.value for metric in found for sample in metric.samples}


def test_each_is_counted_by_its_status_and_timed() -> None:
    operations = Operations()
    operations("ListContainers", "OK", 0.003)
    operations("ListContainers", "OK", 0.2)
    operations("StopContainer", "NOT_FOUND", 0.001)
    found = samples(operations)
    assert found["crid_operations_total ListContainers OK"] == 2
    assert found["crid_operations_total StopContainer NOT_FOUND"] == 1
    assert found["crid_operation_seconds_count ListContainers"] == 2
    assert found["crid_operation_seconds_sum ListContainers"] == pytest.approx(0.203)
    assert found["crid_operation_seconds_bucket ListContainers 0.005"] == 1


def test_a_stream_is_counted_and_not_timed() -> None:
    operations = Operations()
    operations("GetContainerEvents", "CANCELLED", None)
    assert samples(operations) == {"crid_operations_total GetContainerEvents CANCELLED": 1}


def test_no_series_of_when_a_counter_was_made() -> None:
    operations = Operations()
    operations("Version", "OK", 0.1)
    assert not [name for name in samples(operations) if "_created" in name]
