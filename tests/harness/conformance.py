"""Makes the tables of docs/conformance.md out of critest's reports: `python -m tests.harness.conformance REPORT.json...`.

A report is what `tests.harness.critest --report` leaves, and its file's name is the name of the run: `v2-systemd-crun.json`.
The tables take the place of those between the two marks in the document. `scripts/soak` makes the reports.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.critest import NEEDS_THE_ORIGINAL

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"
PASSED, SKIPPED = "passed", "skipped"
ELSEWHERE = "critest has this spec only where SELinux is on"


@dataclass(frozen=True, slots=True, order=True)
class Spec:
    """One spec: the file of critest that has it, and its whole name."""

    file: str
    name: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a spec in a run; the reason is that of a spec which skipped itself."""

    state: str
    reason: str = ""


Run = Mapping[Spec, Outcome]


def parse(report: Sequence[Mapping[str, Any]]) -> Run:
    """Return the outcomes in a report of ginkgo's. Benchmarks, and specs that the run was not asked for, are left out."""
    found = {}
    for spec in (spec for suite in report for spec in suite["SpecReports"] if spec["LeafNodeType"] == "It"):
        file = Path(spec["LeafNodeLocation"]["FileName"])
        reason = spec.get("Failure", {}).get("Message", "")
        if file.parent.name != "validate" or (spec["State"] == SKIPPED and not reason):
            continue
        words = [*spec["ContainerHierarchyTexts"][1:], spec["LeafNodeText"].removesuffix("[Conformance]").strip()]
        found[Spec(file.name, " ".join(words))] = Outcome(spec["State"], reason)
    return found


def tables(runs: Mapping[str, Run]) -> str:
    """Return the document's part: a line a run, then a line a spec, by file."""
    specs = sorted({spec for run in runs.values() for spec in run})
    lines = ["| Run | Passed | Failed | Skipped |", "| --- | --- | --- | --- |"]
    for name, run in runs.items():
        states = [outcome.state for outcome in run.values()]
        passed, skipped = states.count(PASSED), states.count(SKIPPED)
        lines.append(f"| {name} | {passed} | {len(states) - passed - skipped} | {skipped} |")
    lines += ["", f"## The {len(specs) + 1} specs", ""]
    lines += ["| Spec | Passed in | Else |", "| --- | --- | --- |"]
    lines.append(f"| image.go: {NEEDS_THE_ORIGINAL} | no run | the original image cannot be reached from here |")
    by_file = defaultdict(list)
    for spec in specs:
        by_file[spec.file].append(spec)
    for file, members in by_file.items():
        lines.append(f"| **{file}** ({len(members)}) | | |")
        lines += [_row(spec, runs) for spec in members]
    return "\n".join(lines) + "\n"


def _row(spec: Spec, runs: Mapping[str, Run]) -> str:
    ran = {name: run[spec] for name, run in runs.items() if spec in run}
    passed = [name for name, outcome in ran.items() if outcome.state == PASSED]
    reasons = defaultdict(list)
    for name, outcome in ran.items():
        if outcome.state != PASSED:
            reasons[outcome.reason if outcome.state == SKIPPED else outcome.state.upper()].append(name)
    other = "; ".join(f"{_listed(names, runs)}: {_escaped(reason)}" for reason, names in reasons.items())
    if not other and spec.file == "selinux_linux.go":
        other = ELSEWHERE
    return f"| {_escaped(spec.name)} | {_listed(passed, ran)} | {other} |"


def _listed(names: Sequence[str], among: Iterable[str]) -> str:
    """Return the names, those that are all of a host together as `HOST`."""
    if not names:
        return "none"
    hosts: defaultdict[str, list[str]] = defaultdict(list)
    for name in among:
        hosts[_host(name)].append(name)
    if len(names) == sum(map(len, hosts.values())) and len(hosts) > 1:
        return "all"
    whole = [host for host, members in hosts.items() if set(members) <= set(names)]
    return ", ".join([*whole, *(name for name in names if _host(name) not in whole)])


def _host(name: str) -> str:
    return name.partition("-")[0]


def _escaped(text: str) -> str:
    return re.sub(r"([|<>_*])", r"\\\1", text.replace("\n", " "))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--print", action="store_true", help="print the tables and leave the document alone")
    arguments = parser.parse_args()
    made = tables({path.stem: parse(json.loads(path.read_text())) for path in arguments.reports})
    if arguments.print:
        print(made, end="")
        return
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + made + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
