"""More data than memory: a training set from file to file, in a process with a memory limit.

Two sizes, one ten times the other, to compare the cost per row. The limit is enforced from outside
(see `memory`), and the kernel's high-water mark is held against it afterwards. Sampled rows of each
answer are compared with DuckDB's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from answers import compared, read_spine
from columns import ROW
from dataset import Size
from goals import Goal
from joins import DUCKDB, OURS, Join, prepared
from memory import EVERY
from options import Options
from process import redis_server, run_case
from report import Measure, Report, Unequal
from sides import MEASURES, PEAK, Goals, Measured, Side, in_turn, part, report

SIZES = {
    "tiny": Size(rows=20_000, keys=200, features=4, spine=2_000),
    "default": Size(rows=10_000_000, keys=100_000, features=4, spine=1_000_000),
    "full": Size(rows=100_000_000, keys=1_000_000, features=4, spine=10_000_000),
}
TENTH = 10
LIMITS = {"tiny": 1024, "default": 1024, "full": 4096}
"""The process's memory limit, MiB."""
BUDGET = 0.75
"""The part of the limit that the join is told to keep within; the rest is the interpreter's."""
SAMPLE = 20_000
_SEED = 7
COST = Measure(name="µs/row", digits=3)


def run(options: Options, folder: Path) -> Report:
    """Stream both sizes in turn within the limit."""
    size, limit = SIZES[options.size], LIMITS[options.size]
    work = f"within {limit / 1024:g} GiB: {size}"
    with redis_server(folder / "online") as url:
        made = part(
            f"Larger than memory, {work}",
            _goals(work, size, limit),
            partial(_measured, options, folder, url),
            (COST, *MEASURES),
        )
    notes = (
        f"limit: {limit:,} MiB of resident memory, looked at every {EVERY * 1000:.0f} ms",
        "the process's own high-water mark is held against the limit, too",
        "µs/row: seconds over feature rows and entity rows together; ratio: of that",
    )
    return report("large", size.plain(), options.repeats, [made], notes)


def _goals(work: str, size: Size, limit: int) -> Goals:
    whole, tenth = _named(size), _named(_tenth(size))
    return {
        Goal(work=work, figure="peak MiB, completed", must=float(limit), digits=0): (
            lambda found: max(found.most(whole, PEAK), found.most(tenth, PEAK))
        ),
        Goal(work=work, figure="of the cost per row at a tenth", reach=1.25): (
            lambda found: found.ratio(whole, tenth, COST.name)
        ),
    }


def _measured(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    size = SIZES[options.size]
    joins = {
        _named(one): prepared(one, folder / str(one.rows), url) for one in (_tenth(size), size)
    }
    sides = [
        replace(_streamed(name, join, LIMITS[options.size]), against=_named(_tenth(size)))
        for name, join in joins.items()
    ]
    return in_turn(sides, options.repeats, folder, partial(_compared, joins)), sides


def _streamed(name: str, join: Join, limit: int) -> Side:
    budget = int(limit * BUDGET) << 20
    inner = join.ours(name, "stream", limit=limit, memory=budget)
    rows = join.size.rows + join.size.spine

    def run(answer: Path) -> dict[str, float]:
        made = inner.run(answer)
        return made | {COST.name: made["seconds"] / rows * 1e6}

    return replace(inner, run=run)


def _compared(joins: Mapping[str, Join], answers: Mapping[str, Path]) -> list[str]:
    """Compare entity rows as a whole, and sampled rows' features with DuckDB's.

    Raises:
        Unequal: rows or their order differ, or a sampled value.
    """
    lines = []
    for name, answer in answers.items():
        folder = joins[name].folder
        rows = pl.scan_parquet(answer).select(ROW).collect()[ROW]
        if not rows.equals(read_spine(folder)[ROW]):
            raise Unequal(f"{name}: entity rows are missing, or in another order")
        sample, reference = folder / "sample.parquet", folder / "reference.parquet"
        chosen = read_spine(folder).sample(min(SAMPLE, len(rows)), seed=_SEED)
        chosen.sort(ROW).write_parquet(sample)
        asked: dict[str, Any] = {"folder": folder, "features": joins[name].size.features}
        run_case("duckdb_peer.py", "sampled", **asked, spine=sample, keep=reference)
        found = pl.scan_parquet(answer).join(
            pl.scan_parquet(sample).select(ROW), on=ROW, how="semi", maintain_order="left"
        )
        kept = folder / "found.parquet"
        found.collect(engine="streaming").write_parquet(kept)
        both = {name: kept, DUCKDB: reference}
        lines += compared(both, DUCKDB, chosen.sort(ROW))
    return lines


def _tenth(size: Size) -> Size:
    return Size(
        rows=size.rows // TENTH,
        keys=size.keys // TENTH,
        features=size.features,
        spine=size.spine // TENTH,
    )


def _named(size: Size) -> str:
    return f"{OURS}, {size.rows:,} rows x {size.spine:,}"
