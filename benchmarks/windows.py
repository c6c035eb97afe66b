"""Training sets of windowed features: twenty over three windows, and each window by itself.

DuckDB answers in both ways that SQL has for it; the faster one counts. The length of a window is
not to matter: the same twenty features are asked for over one window after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
from answers import read_spine
from asked import mixed, over
from columns import ROW
from events import Flow
from goals import Goal
from moving import FRAMES, OURS, RANGES, Windows, prepared
from near import near
from options import Options
from process import redis_server
from report import Report
from sides import PEAK, SECONDS, Goals, Measured, Side, in_turn, part, report

SIZES = {
    "tiny": Flow(events=4_000, keys=40, spine=500),
    "default": Flow(events=3_000_000, keys=30_000, spine=300_000),
    "full": Flow(events=10_000_000, keys=100_000, spine=1_000_000),
}
"""A table of less than two million events has one bucket, and so one worker."""
LENGTHS = (1, 7, 30, 90)
SERVICE = "mixed"
SAMPLE = 20_000
_SEED = 7


def run(options: Options, folder: Path) -> Report:
    """Run all three sides in turn; compare each answer before its time counts."""
    flow = SIZES[options.size]
    work = f"20 windowed features, 1 d, 7 d, 30 d: {flow}"
    with redis_server(folder / "online") as url:
        made = part(
            f"Windows: {work}", _goals(work), partial(_three, options, folder / "data", url)
        )
    notes = (
        "ratio: seconds over those of 'ours'; the goal is held against the faster DuckDB",
        "tails are floor(t - length, every) on all sides; every: 1 h, of 30 days 1 d",
        "DuckDB: 2 threads, raw Parquet, Arrow out, rows in any order",
    )
    return report("windows", flow.plain(), options.repeats, [made], notes)


def _goals(work: str) -> Goals:
    return {
        Goal(work=work, figure="of the faster DuckDB's time", must=1.0, reach=0.3): _time,
        Goal(work=work, figure="of the leaner DuckDB's memory"): _memory,
    }


def _three(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    asked = mixed()
    sets = prepared(SIZES[options.size], folder, url, {SERVICE: asked})
    sides = [
        sets.ours(SERVICE),
        sets.duckdb(SERVICE, "frames", FRAMES),
        sets.duckdb(SERVICE, "ranges", RANGES),
    ]
    rows = read_spine(folder)[ROW]
    compare = partial(near, reference=RANGES, rows=rows, asked=asked)
    return in_turn(sides, options.repeats, folder, compare), sides


def _time(found: Measured) -> float:
    return max(found.ratio(OURS, FRAMES), found.ratio(OURS, RANGES))


def _memory(found: Measured) -> float:
    return max(found.ratio(OURS, FRAMES, PEAK), found.ratio(OURS, RANGES, PEAK))


def lengths(options: Options, folder: Path) -> Report:
    """Ask for one window after the other, in turn; sampled rows are compared with DuckDB's."""
    flow = SIZES[options.size]
    days = LENGTHS if options.size != "tiny" else (LENGTHS[0], LENGTHS[-1])
    work = f"20 windowed features, {LENGTHS[0]} d to {LENGTHS[-1]} d: {flow}"
    goal = Goal(work=work, figure="longest time over shortest", must=1.5)
    with redis_server(folder / "online") as url:
        each = partial(_each, options, folder / "data", url, days)
        made = part(f"Length of a window: {work}", {goal: partial(_spread, days=days)}, each)
    notes = (f"ratio: seconds over those of '{_named(LENGTHS[0])}'",)
    return report("windows-length", flow.plain(), options.repeats, [made], notes)


def _each(
    options: Options, folder: Path, url: str, days: Sequence[int]
) -> tuple[Measured, Sequence[Side]]:
    services = {_service(of): over(of) for of in days}
    sets = prepared(SIZES[options.size], folder, url, services)
    sides = [
        replace(sets.ours(_service(of), _named(of)), against=_named(LENGTHS[0])) for of in days
    ]
    spine = read_spine(folder)
    chosen = spine.sample(min(SAMPLE, spine.height), seed=_SEED).sort(ROW)
    chosen.write_parquet(folder / "sample.parquet")
    return in_turn(sides, options.repeats, folder, partial(_sampled, sets, chosen[ROW])), sides


def _sampled(sets: Windows, rows: pl.Series, answers: Mapping[str, Path]) -> list[str]:
    """Compare sampled rows of each answer with those of DuckDB's range join."""
    lines = []
    for days in LENGTHS:
        if _named(days) not in answers:
            continue
        found, wanted = sets.folder / "found.parquet", sets.folder / "wanted.parquet"
        answer = pl.scan_parquet(answers[_named(days)])
        answer.filter(pl.col(ROW).is_in(rows.implode())).collect().write_parquet(found)
        sets.duckdb(_service(days), "ranges", RANGES, "sample.parquet").run(wanted)
        both = {_named(days): found, RANGES: wanted}
        lines += near(both, RANGES, rows, sets.services[_service(days)])
    return lines


def _spread(found: Measured, days: Sequence[int]) -> float:
    times = [found.median(_named(of), SECONDS) for of in days]
    return max(times) / min(times)


def _service(days: int) -> str:
    return f"over_{days}d"


def _named(days: int) -> str:
    return f"{OURS}, {days} d"
