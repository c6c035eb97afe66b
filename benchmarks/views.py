"""Five views side by side on one spine, each with its own source, against five ASOF joins.

DuckDB joins them in one statement, or in five whose answers it leaves apart; the faster counts.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from answers import compared, read_spine
from dataset import Size
from goals import Goal
from joins import DUCKDB, OURS, prepared
from options import Options
from process import redis_server
from report import Report
from sides import Measured, Side, in_turn, part, report

SIZES = {
    "tiny": Size(rows=1_000, keys=40, features=10, spine=500, views=5),
    "default": Size(rows=500_000, keys=25_000, features=10, spine=250_000, views=5),
    "full": Size(rows=2_000_000, keys=100_000, features=10, spine=1_000_000, views=5),
}
TOGETHER, APART = f"{DUCKDB}, one statement", f"{DUCKDB}, five"


def run(options: Options, folder: Path) -> Report:
    """Run every side in turn; every answer is compared value for value."""
    size = SIZES[options.size]
    goal = Goal(work=str(size), figure="of DuckDB's time", must=1.0, reach=0.5)
    with redis_server(folder / "online") as url:
        made = part(
            f"Views: {size}",
            {goal: _against_the_faster},
            partial(_measured, options, folder / "data", url),
        )
    notes = ("ratio: seconds over those of 'ours'; the goal is held against the faster DuckDB",)
    return report("views", size.plain(), options.repeats, [made], notes)


def _measured(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    join = prepared(SIZES[options.size], folder, url)
    sides = [join.ours(), join.duckdb(TOGETHER), join.duckdb(APART, apart=True)]
    compare = partial(compared, reference=TOGETHER, spine=read_spine(folder))
    return in_turn(sides, options.repeats, folder, compare), sides


def _against_the_faster(found: Measured) -> float:
    return max(found.ratio(OURS, TOGETHER), found.ratio(OURS, APART))
