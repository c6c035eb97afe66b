"""How the shape of the data changes a training set's time: each shape against the even one.

All have as many rows, features and entity rows. Even: every key has a thousand rows. One hot key:
it has half of all rows, and of the entity rows. Then a hundred rows a key, and one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from answers import compared, read_spine
from dataset import Size
from goals import Goal
from joins import DUCKDB, OURS, Join, prepared
from options import Options
from process import redis_server
from report import Report
from sides import Goals, Measured, Side, in_turn, part, report

SIZES = {
    "tiny": Size(rows=2_000, keys=2, features=10, spine=500),
    "default": Size(rows=500_000, keys=500, features=10, spine=100_000),
    "full": Size(rows=4_000_000, keys=4_000, features=10, spine=1_000_000),
}
EVEN, HOT, HUNDRED, ONE = "1,000 rows a key", "one hot key", "100 rows a key", "1 row a key"


def shapes(options: Options) -> Mapping[str, Size]:
    """Give the shapes of data of one size, the even one first; a smoke test has just one more."""
    size = SIZES[options.size]
    others = {
        HOT: replace(size, hot=0.5),
        HUNDRED: replace(size, keys=size.rows // 100),
        ONE: replace(size, keys=size.rows),
    }
    return {EVEN: size} | ({HOT: others[HOT]} if options.size == "tiny" else others)


def run(options: Options, folder: Path) -> Report:
    """Run every shape in turn, ours and DuckDB's side, and compare their answers."""
    size = SIZES[options.size]
    work = f"{size.spine:,} entity rows x ({size.rows:,} rows x {size.features} float32)"
    goals: Goals = {
        Goal(work=work, figure=f"{shape}: of the even case's time", must=2.0): partial(
            Measured.ratio, side=_named(shape), other=_named(EVEN)
        )
        for shape in shapes(options)
        if shape != EVEN
    }
    with redis_server(folder / "online") as url:
        made = part(f"Skew: {work}", goals, partial(_measured, options, folder, url))
    notes = (f"ratio: seconds over those of '{_named(EVEN)}'",)
    return report("skew", size.plain(), options.repeats, [made], notes)


def _measured(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    joins = {
        shape: prepared(size, folder / str(number), url)
        for number, (shape, size) in enumerate(shapes(options).items())
    }
    sides = [
        replace(side, against=_named(EVEN))
        for shape, join in joins.items()
        for side in (join.ours(_named(shape)), join.duckdb(_named(shape, DUCKDB)))
    ]
    return in_turn(sides, options.repeats, folder, partial(_compared, joins)), sides


def _compared(joins: Mapping[str, Join], answers: Mapping[str, Path]) -> list[str]:
    """Compare what the two sides answered, shape by shape."""
    lines = []
    for shape, join in joins.items():
        both = {name: answers[name] for name in _pair(shape) if name in answers}
        lines += compared(both, _named(shape, DUCKDB), read_spine(join.folder))
    return lines


def _pair(shape: str) -> tuple[str, str]:
    return _named(shape), _named(shape, DUCKDB)


def _named(shape: str, side: str = OURS) -> str:
    return f"{side}, {shape}"
