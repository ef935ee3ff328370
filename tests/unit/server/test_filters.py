import pytest

from crid.server.filters import has_labels


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [({}, True), ({"a": "1"}, True), ({"a": "1", "b": ""}, True), ({"a": "2"}, False), ({"c": ""}, False), ({"a": ""}, False)],
)
def test_every_label_must_be_there_with_its_value(selector: dict[str, str], chosen: bool) -> None:
    assert has_labels({"a": "1", "b": ""}, selector) is chosen
