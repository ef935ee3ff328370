"""crid.net.cni_capabilities: quantities, and annotations that are none. What plugins get is in tests/integration/net."""

import pytest

from crid.errors import InvalidArgumentError
from crid.net.cni_capabilities import capability_arguments, quantity
from crid.net.plugin import PodNetwork


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("10", 10), ("1k", 1000), ("10M", 10**7), ("1Mi", 1 << 20), ("1.5Gi", 3 << 29), ("1e6", 10**6), ("1E3", 1000),
     ("2E", 2 * 10**18), ("100m", 1), (".5k", 500), ("-1", -1)],
)  # fmt: skip
def test_quantities(text: str, number: int) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "M", "10 M", "10MB", "0x10", "1e", "inf", "nan", "1,5M", "1e9999"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity(text)


def test_a_bad_annotation_is_named() -> None:
    pod = PodNetwork("id", "/ns", pod_name="web", annotations={"kubernetes.io/egress-bandwidth": "fast"})
    with pytest.raises(InvalidArgumentError, match=r"web.*kubernetes.io/egress-bandwidth: 'fast'"):
        capability_arguments(pod, [])


def test_a_rate_of_nothing_is_no_limit() -> None:
    pod = PodNetwork("id", "/ns", annotations={"kubernetes.io/egress-bandwidth": "0"})
    assert "bandwidth" not in capability_arguments(pod, [])
