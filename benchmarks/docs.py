"""Write measured figures into docs/benchmarks.md: `python benchmarks/docs.py [--from FOLDER]`.

Everything between the page's two marks is written anew from the JSON that `run.py` left, so that no
figure is typed by hand.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from goals import Goal, Reached
from report import Case, Measure, Report, Table

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: benchmarks/docs.py writes them -->", "<!-- end of figures -->"
NAMES = ("training", "views", "skew", "large", "executors", "cold", "materialize")
MORE = (
    *("windows", "windows-length", "windows-lookup", "windows-push", "serving", "serving-profile"),
    *("soak-valkey", "soak-redis"),
)
"""Benchmarks whose figures come in where they were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A report as it was written, with where and how it was measured."""

    report: Report
    setting: Mapping[str, Any]
    sizes: str


def main() -> int:
    """Write the page's figures from the JSON files there are; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--from", dest="folder", type=Path, default=HERE / "out")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    files = [given.folder / f"{name}.json" for name in NAMES]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        parser.error(f"not there: {', '.join(missing)}; run `make bench-training` first")
    more = [given.folder / f"{name}.json" for name in MORE]
    records = [read(file) for file in (*files, *(one for one in more if one.is_file()))]
    if any(record.sizes == "tiny" for record in records):
        parser.error(f"{given.folder}: has figures of a smoke test, which mean nothing")
    page = given.page.read_text(encoding="utf-8")
    given.page.write_text(written(page, records), encoding="utf-8")
    return 0


def read(file: Path) -> Record:
    """Read a report back."""
    body = json.loads(file.read_text(encoding="utf-8"))
    report = Report(
        name=body["name"],
        size=body["size"],
        repeats=body["repeats"],
        tables=tuple(_table(one) for one in body["tables"]),
        checks=tuple(body["checks"]),
        notes=tuple(body["notes"]),
        goals=tuple(
            Reached(goal=Goal(**one["goal"]), value=one["value"], why=one["why"])
            for one in body["goals"]
        ),
        failed=body["failed"],
    )
    return Record(report=report, setting=body["setting"], sizes=body["sizes"])


def written(page: str, records: Sequence[Record]) -> str:
    """Give the page with its figures replaced.

    Raises:
        ValueError: the page lacks one of the two marks.
    """
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"the page needs the marks {BEGIN!r} and {END!r}, each on a line")
    figures = "\n".join(_figures(records))
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"


def _figures(records: Sequence[Record]) -> Iterable[str]:
    yield from _setting(records)
    yield from _goals([one for record in records for one in record.report.goals])
    for record in records:
        yield from _details(record.report)


def _setting(records: Sequence[Record]) -> Iterable[str]:
    """Give where the figures come from; one line for each setting there was."""
    keyed = [(_machine(record), record.report.name) for record in records]
    for machine, of in groupby(sorted(keyed), key=lambda one: one[0]):
        yield f"{machine}: {', '.join(name for _, name in of)}."
        yield ""


def _machine(record: Record) -> str:
    at = record.setting
    versions = ", ".join(f"{name} {number}" for name, number in at["versions"].items())
    return (
        f"Measured on {at['date']}, {record.sizes} sizes, medians of {record.report.repeats}, on "
        f"{at['cores']} cores ({at['cpu']}, {at['memory']}), {at['platform']}, "
        f"Python {at['python']}, {versions}"
    )


def _goals(goals: Sequence[Reached]) -> Iterable[str]:
    yield "| work | figure | must | reach for | found | |"
    yield "|---|---|---:|---:|---:|---|"
    for one in goals:
        goal = one.goal
        told = one.verdict if one.value is not None else f"{one.verdict}: {one.why}"
        cells = (goal.work, goal.figure, goal.told(goal.must), goal.told(goal.reach), one.told())
        yield _row((*cells, told))
    yield ""


def _details(report: Report) -> Iterable[str]:
    for table in report.tables:
        yield f"### {table.title}"
        yield ""
        ratios = any(case.against for case in table.cases)
        heads = [measure.name for measure in table.measures] + (["ratio"] if ratios else [])
        yield _row((f"median of {report.repeats}", *heads))
        yield "|---|" + "---:|" * len(heads)
        for case in table.cases:
            cells = [_cell(case.median(m.name), m.digits) for m in table.measures]
            yield _row((case.name, *cells, *([_cell(table.ratio(case), 2)] if ratios else ())))
        yield ""
    for kind, lines in (
        ("equal", report.checks),
        ("failed", [f"{side}: {why}" for side, why in report.failed.items()]),
        ("note", report.notes),
    ):
        yield from (f"- {kind}: {line}" for line in lines)
    yield ""


def _table(body: Mapping[str, Any]) -> Table:
    return Table(
        title=body["title"],
        measures=tuple(Measure(**one) for one in body["measures"]),
        cases=tuple(
            Case(name=one["name"], samples=one["samples"], against=one["against"])
            for one in body["cases"]
        ),
    )


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
