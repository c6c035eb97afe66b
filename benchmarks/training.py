"""A training set: entity rows joined with the newest features known at each one's moment.

Sides: the store from its materialized table; Feast's default file store; DuckDB's ASOF join; one
plain Polars `join_asof` as the floor. The small one is also built with pandas in and out, and as a
notebook draft from the source file. A time is one call in a fresh process, from entity rows in
memory to the answer in memory, all reading of Parquet or Delta included; imports are not.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from answers import compared, read_spine
from dataset import Size
from goals import Goal
from joins import DUCKDB, FEAST, FLOOR, OURS, prepared
from options import Options
from process import redis_server
from report import Report
from sides import PEAK, Goals, Measured, Side, in_turn, part, report

SMALL = {
    "tiny": Size(rows=2_000, keys=40, features=50, spine=500),
    "default": Size(rows=1_000_000, keys=10_000, features=50, spine=100_000),
    "full": Size(rows=1_000_000, keys=10_000, features=50, spine=100_000),
}
LARGE = {
    "tiny": Size(rows=4_000, keys=80, features=20, spine=1_000),
    "default": Size(rows=2_500_000, keys=50_000, features=20, spine=500_000),
    "full": Size(rows=10_000_000, keys=200_000, features=20, spine=2_000_000),
}


def run(options: Options, folder: Path) -> Report:
    """Run every side in turn, as often as asked; compare each answer before its time counts."""
    small, large = SMALL[options.size], LARGE[options.size]
    with redis_server(folder / "online") as url:
        parts = [
            part(
                f"Training set: {small}",
                _small_goals(str(small)),
                partial(_small, options, folder / "small", url),
            ),
            part(
                f"Training set: {large}",
                _large_goals(str(large)),
                partial(_large, options, folder / "large", url),
            ),
        ]
    return report("training", large.plain(), options.repeats, parts, _notes(options))


def _small(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    join = prepared(SMALL[options.size], folder, url)
    sides = [
        join.ours(),
        join.ours(f"{OURS}, pandas", pandas=True),
        join.draft(),
        join.duckdb(),
        join.floor(),
        *([join.feast()] if options.feast else ()),
    ]
    compare = partial(compared, reference=DUCKDB, spine=read_spine(folder), losing=FEAST)
    return in_turn(sides, options.repeats, folder, compare), sides


def _large(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    join = prepared(LARGE[options.size], folder, url)
    sides = [join.ours(), join.duckdb(), join.floor()]
    compare = partial(compared, reference=DUCKDB, spine=read_spine(folder))
    return in_turn(sides, options.repeats, folder, compare), sides


def _small_goals(work: str) -> Goals:
    return {
        Goal(work=work, figure="times as fast as Feast", better="more", must=40, digits=1): (
            lambda found: found.ratio(FEAST, OURS)
        ),
        Goal(work=work, figure="of Feast's memory", must=1 / 8, digits=3): (
            lambda found: found.ratio(OURS, FEAST, PEAK)
        ),
        Goal(work=work, figure="of DuckDB's time", reach=1.0): (
            lambda found: found.ratio(OURS, DUCKDB)
        ),
    }


def _large_goals(work: str) -> Goals:
    return {
        Goal(work=work, figure="of DuckDB's time", must=1.0, reach=0.7): (
            lambda found: found.ratio(OURS, DUCKDB)
        ),
        Goal(work=work, figure="of DuckDB's memory", must=0.6): (
            lambda found: found.ratio(OURS, DUCKDB, PEAK)
        ),
    }


def _notes(options: Options) -> tuple[str, ...]:
    lines = [
        "ratio: seconds over those of 'ours'; peak: the whole process; ttl: 7 days on all sides",
        f"{DUCKDB}: 2 threads, raw Parquet, Arrow out, rows in any order; {FLOOR}: raw Parquet",
        "the draft is declared without feast; a notebook that imports feast holds more",
    ]
    if options.feast:
        lines.append("Feast runs under python -O, and takes and gives pandas")
    else:
        lines.append("Feast was left out: it is not installed, or --without-feast was given")
    return tuple(lines)
