"""What a benchmark hands back: tables of samples, the checks that came first, and its notes."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from goals import Reached
from rich import box
from rich.console import Console
from rich.table import Table as Grid

LIBRARIES = (
    "featurestore", "feast", "duckdb", "ray", "polars", "pandas", "pyarrow", "deltalake", "redis",
    "hiredis", "grpcio", "protobuf", "numpy",
)  # fmt: skip

_FIGURE, _BOUND, _VERDICT = 30, 10, 8


class Unequal(Exception):
    """Two sides answered differently: their times must not be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing measured: its column's name, unit included, and the digits to print."""

    name: str
    digits: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One side's samples, a tuple per measure; `against` names the case it is a ratio of."""

    name: str
    samples: Mapping[str, tuple[float, ...]]
    against: str | None = None

    def median(self, measure: str) -> float | None:
        """Give the median of a measure, or None if this case does not have it."""
        found = self.samples.get(measure)
        return median(found) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cases side by side; ratios are of the first measure."""

    title: str
    measures: tuple[Measure, ...]
    cases: tuple[Case, ...]

    def ratio(self, case: Case) -> float | None:
        """Give the case's median of the first measure over that of the case it is held against."""
        base = next((one for one in self.cases if one.name == case.against), None)
        below = base.median(self.measures[0].name) if base else None
        above = case.median(self.measures[0].name)
        return None if below is None or above is None or not below else above / below


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One benchmark's outcome; `checks` say what was found equal before any time was compared.

    `failed` names the sides that could not be measured, each with the reason.
    """

    name: str
    size: Mapping[str, int]
    repeats: int
    tables: tuple[Table, ...]
    checks: tuple[str, ...]
    notes: tuple[str, ...]
    goals: tuple[Reached, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


def write(report: Report, folder: Path, seconds: float, sizes: str) -> Path:
    """Write a report with its setting, samples, medians and ratios as JSON; gives the file.

    `sizes` names how large the data was: tiny, default or full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    body: dict[str, Any] = asdict(report)
    body |= {"setting": setting(), "sizes": sizes, "took_seconds": seconds}
    for table, written in zip(report.tables, body["tables"], strict=True):
        for case, plain in zip(table.cases, written["cases"], strict=True):
            plain["medians"] = {name: median(values) for name, values in case.samples.items()}
            plain["ratio"] = table.ratio(case)
    for one, plain in zip(report.goals, body["goals"], strict=True):
        plain["verdict"] = one.verdict
    file = folder / f"{report.name}.json"
    file.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def show(report: Report, console: Console) -> None:
    """Print a report: its tables of medians, then its checks and notes."""
    for table in report.tables:
        console.print(f"[bold]{table.title}[/]")
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
        grid.add_column("median of " + str(report.repeats), overflow="fold")
        for measure in table.measures:
            grid.add_column(measure.name, justify="right")
        if any(case.against for case in table.cases):
            grid.add_column("ratio", justify="right")
        for case in table.cases:
            cells = [_cell(case.median(m.name), m.digits) for m in table.measures]
            grid.add_row(case.name, *cells, _cell(table.ratio(case), 2))
        console.print(grid)
    told = Grid.grid(padding=(0, 2, 0, 0))
    for line in report.checks:
        told.add_row("[green]equal[/]", line)
    for side, why in report.failed.items():
        told.add_row("[red]failed[/]", f"{side}: {why}")
    for line in report.notes:
        told.add_row("[dim]note[/]", line)
    console.print(told)


def show_goals(goals: Sequence[Reached], console: Console, *, judged: bool = True) -> None:
    """Print what had to be reached, what is reached for, and what was found."""
    for work, of in groupby(goals, key=lambda one: one.goal.work):
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
        grid.add_column("figure", width=_FIGURE)
        for name in ("must", "reach", "found"):
            grid.add_column(name, justify="right", width=_BOUND)
        grid.add_column("", width=_VERDICT)
        for one in of:
            goal = one.goal
            told = (goal.told(goal.must), goal.told(goal.reach), one.told())
            colour = "red" if one.short else "green"
            verdict = f"[{colour}]{one.verdict}[/]" if judged and one.verdict else ""
            grid.add_row(goal.figure, *told, verdict)
        console.print(f"[bold]{work}[/]")
        console.print(grid)


def setting() -> dict[str, Any]:
    """Give what a figure depends on: the machine and the versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "machine_cores": os.cpu_count(),
        "cpu": _first_line("/proc/cpuinfo", "model name"),
        "memory": _first_line("/proc/meminfo", "MemTotal"),
        "load_average": os.getloadavg(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES if _installed(name)},
    }


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def _first_line(path: str, name: str) -> str | None:
    """Give a named line's value of a file that Linux keeps, or None elsewhere."""
    if not Path(path).is_file():
        return None
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((one.partition(":")[2].strip() for one in lines if one.startswith(name)), None)
