"""Series of measurements, their summary, and the table in docs/performance.md."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and 95th percentile of a series, in the series' unit."""

    median: float
    p95: float


def summarise(series: Sequence[float]) -> Summary:
    """Return the summary of a series of at least two values; percentiles are interpolated between them."""
    return Summary(statistics.median(series), statistics.quantiles(series, n=20, method="inclusive")[-1])


def percentile(series: Sequence[float], percent: int) -> float:
    """Return the value that so many percent of a series of at least two do not exceed, interpolated."""
    return statistics.quantiles(series, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `floor` is the OCI runtime's own time for it; `limit` the largest value (or ratio) aimed at."""

    name: str
    unit: str
    summary: Summary
    floor: float | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """Median in terms of the floor."""
        return self.summary.median / self.floor if self.floor else None

    @property
    def met(self) -> bool | None:
        """Whether the limit is kept, None without one."""
        if self.limit is None:
            return None
        return (self.summary.median if self.ratio is None else self.ratio) <= self.limit

    def cells(self) -> list[str]:
        """Return the row as it is shown."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        target = "" if self.limit is None else f"≤ {self.limit:g} {'' if self.ratio else self.unit}".rstrip()
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        floor = "" if self.floor is None else f"{self.floor:.2f}"
        return [self.name, self.unit, f"{self.summary.median:.2f}", f"{self.summary.p95:.2f}", floor, ratio, target, verdict]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ["What", "Unit", "Median", "p95", "Floor", "Ratio", "Target", "Met"]
    lines = [header, ["---", "---", "---:", "---:", "---:", "---:", "---", "---"], *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def replace_between_markers(page: Path, text: str) -> None:
    """Put `text` between the markers of a page. Raises ValueError if the page has not exactly one pair of them."""
    content = page.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if content.count(BEGIN) != 1 or content.count(END) != 1 or not pattern.search(content):
        raise ValueError(f"{page}: must hold {BEGIN} and {END} once each, in this order")
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", content))
