"""Windows in DuckDB SQL over the raw Parquet file, in 2 threads, in the two ways there are.

`frames` are RANGE window frames over the union of events and entity rows; `ranges` join each entity
row with the events that its longest window covers, and aggregate what is inside the others by
FILTER. (A join for each window took as long.) Tails are the store's: floor(t - length, every). The
answer is an Arrow table of row numbers and features in any order.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from asked import DAY, Asked, read
from child import main, timed
from columns import EVENT, KEY, MOMENT, ROW, SPINE

THREADS = 2
_SQL = {
    "count": "count({})",
    "sum": "sum({})",
    "mean": "avg({})",
    "std": "stddev_samp({})",
    "min": "min({})",
    "max": "max({})",
}


def frames(
    *,
    folder: str,
    asked: Sequence[Sequence[str]],
    spine: str = SPINE,
    keep: str | None = None,
) -> Mapping[str, float]:
    """Compute every window of every row of the union, and keep those of entity rows."""
    return _run(_frames, folder, asked, spine, keep)


def ranges(
    *,
    folder: str,
    asked: Sequence[Sequence[str]],
    spine: str = SPINE,
    keep: str | None = None,
) -> Mapping[str, float]:
    """Join entity rows with all they cover, then aggregate by entity row."""
    return _run(_ranges, folder, asked, spine, keep)


def _run(
    write: Callable[[Sequence[Asked], str, str], str],
    folder: str,
    asked: Sequence[Sequence[str]],
    spine: str,
    keep: str | None,
) -> Mapping[str, float]:
    features = read(asked)
    inputs = dict.fromkeys(one.column for one in features if one.column)
    events = f"SELECT {KEY}, epoch_us({MOMENT}) AS us, true AS there, {', '.join(inputs)} "
    events += f"FROM read_parquet('{Path(folder) / 'events.parquet'}')"
    rows = f"SELECT {ROW}, {KEY}, epoch_us({EVENT}) AS us "
    rows += f"FROM read_parquet('{Path(folder) / spine}')"
    statement = write(features, events, rows)
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {THREADS}")

        def work() -> pa.Table:
            return connection.sql(statement).to_arrow_table()

        made, measured = timed(work)
        if keep is not None:
            pq.write_table(made, keep)
    return measured


def _frames(asked: Sequence[Asked], events: str, rows: str) -> str:
    columns = ", ".join(_column(one, f"OVER w{one.days}") for one in asked)
    covered = ", ".join(
        f"w{days} AS (PARTITION BY {KEY} ORDER BY us "
        f"RANGE BETWEEN us - ({tail}) PRECEDING AND CURRENT ROW)"
        for days, tail in _tails(asked)
    )
    return (
        f"SELECT * FROM (SELECT {ROW}, {columns} FROM ({events} UNION ALL BY NAME {rows}) "
        f"WINDOW {covered}) WHERE {ROW} IS NOT NULL"
    )


def _ranges(asked: Sequence[Asked], events: str, rows: str) -> str:
    tails = dict(_tails(asked))
    first = max(tails)
    columns = ", ".join(
        _column(one, "" if one.days == first else f"FILTER (event.us >= spine.since{one.days})")
        for one in asked
    )
    sinces = ", ".join(f"{tail} AS since{days}" for days, tail in tails.items())
    return (
        f"SELECT spine.{ROW}, {columns} FROM (SELECT *, {sinces} FROM ({rows})) AS spine "
        f"LEFT JOIN ({events}) AS event ON event.{KEY} = spine.{KEY} "
        f"AND event.us BETWEEN spine.since{first} AND spine.us GROUP BY spine.{ROW}"
    )


def _tails(asked: Iterable[Asked]) -> Iterable[tuple[int, str]]:
    """Give each length in days with the first moment it covers, shortest first."""
    for days, every in sorted({(one.days, one.every) for one in asked}):
        yield days, f"(us - {days * DAY}) // {every} * {every}"


def _column(one: Asked, where: str) -> str:
    """Give a feature's SQL: Booleans as numbers, whole sums as whole numbers, 0 for no events."""
    numbers = f"{one.column}::INT" if one.column == "late" else one.column or "there"
    found = f"{_SQL[one.function].format(numbers)} {where}"
    if one.function == "sum":
        dtype = "BIGINT" if one.column in ("late", "quantity") else "DOUBLE"
        found = f"coalesce({found}, 0)::{dtype}"
    return f"{found} AS {one.name}"


if __name__ == "__main__":
    raise SystemExit(main(frames, ranges))
