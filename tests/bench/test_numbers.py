"""The arithmetic and the page of the benchmark."""

from pathlib import Path

import pytest

from tests.bench.numbers import BEGIN, END, Row, Summary, percentile, replace_between_markers, summarise, table


def test_summary() -> None:
    """Median and 95th percentile, interpolated."""
    values = [float(value) for value in range(101)]
    assert summarise(values) == Summary(50.0, 95.0)
    assert [percentile(values, percent) for percent in (1, 50, 99)] == [1.0, 50.0, 99.0]


@pytest.mark.parametrize(("median", "met"), [(9.0, True), (10.0, True), (10.1, False)])
def test_a_ratio_is_compared_with_its_limit(median: float, met: bool) -> None:
    """The limit of a row with a floor is a ratio."""
    assert Row("x", "ms", Summary(median, median), floor=5.0, limit=2.0).met is met


def test_a_value_without_floor_is_compared_itself() -> None:
    """The limit is then in the row's unit; without a limit there is no verdict."""
    assert Row("x", "MiB", Summary(80.0, 81.0), limit=80.0).met is True
    assert Row("x", "MiB", Summary(80.1, 81.0), limit=80.0).met is False
    assert Row("x", "MiB", Summary(80.1, 81.0)).met is None


def test_table_rows_have_the_same_number_of_cells() -> None:
    """Markdown wants that."""
    text = table([Row("x", "ms", Summary(1.0, 2.0)), Row("y", "ms", Summary(1.0, 2.0), floor=1.0, limit=1.0)])
    assert {line.count("|") for line in text.splitlines()} == {9}


def test_page_is_changed_only_between_its_markers(tmp_path: Path) -> None:
    """And a page without them is refused."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    replace_between_markers(page, "new\\1")
    assert page.read_text() == f"before\n{BEGIN}\nnew\\1\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="once each"):
        replace_between_markers(page, "x")
