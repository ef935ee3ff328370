"""Lists and masks of CPUs, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import InvalidArgumentError
from crid.model import cpus

SETS = st.frozensets(st.integers(0, 200), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("0", (0,)),
        ("0-3,8", (0, 1, 2, 3, 8)),
        (" 1,2 ,3".replace(" ,", ","), (1, 2, 3)),
        ("7-7", (7,)),
        ("3\n", (3,)),
    ],
)
def test_lists(text: str, expected: tuple[int, ...]) -> None:
    assert cpus.parse(text) == frozenset(expected)


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "0,,1", "0 1", "70000", "1-9999999"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"list such as|is no range"):
        cpus.parse(text)


@given(SETS)
def test_a_list_says_what_it_was_made_of(numbers: frozenset[int]) -> None:
    assert cpus.parse(cpus.to_list(numbers)) == numbers


def test_the_list_is_the_shortest() -> None:
    assert cpus.to_list({0, 1, 2, 4, 6, 7}) == "0-2,4,6-7"
    assert cpus.to_list(()) == ""


@given(SETS)
def test_a_mask_says_what_it_was_made_of(numbers: frozenset[int]) -> None:
    assert cpus.parse_mask(cpus.to_mask(numbers, "0,0,0,0,0,0,0")) == numbers


def test_a_mask_is_as_long_as_the_kernels() -> None:
    """A host with 2 CPUs writes `3`, one with 40 writes `ff,ffffffff`, and takes back no more words than that."""
    assert cpus.parse_mask("3\n") == {0, 1}
    assert cpus.to_mask({1}, "3\n") == "00000002"
    assert cpus.to_mask({0, 39}, "ff,ffffffff") == "00000080,00000001"
    assert cpus.to_mask({0, 64}, "ff,ffffffff") == "00000000,00000001"
    with pytest.raises(InvalidArgumentError, match="no mask"):
        cpus.parse_mask("banana")
