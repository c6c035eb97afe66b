"""DuckDB's ASOF join over the raw Parquet files, in 2 threads, at its fastest.

The answer is in any order, as an Arrow table: neither entity rows' order nor a conversion costs it
anything.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
from child import answer, main, timed
from dataset import EVENT, KEY, MOMENT, ROW, SPINE, TTL, views

THREADS = 2
OWN = (ROW, KEY, EVENT)


def training(
    *, folder: str, features: int, count: int = 1, apart: bool = False, keep: str | None = None
) -> Mapping[str, float]:
    """Join the newest reading of each view before each entity row, if it has not expired.

    `apart` runs one statement a view and leaves the answers apart, each with its own row numbers;
    else one statement joins them all.
    """
    asked = views(features, count)
    spine = pl.read_parquet(Path(folder) / SPINE).to_arrow()
    statements = (
        [statement(folder, {view: of}, (ROW,)) for view, of in asked.items()]
        if apart
        else [statement(folder, asked, OWN)]
    )
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {THREADS}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("spine", spine)

        def work() -> list[pa.Table]:
            return [connection.execute(one).to_arrow_table() for one in statements]

        made, measured = timed(work)
    answer(_beside(made), keep)
    return measured


def sampled(*, folder: str, features: int, spine: str, keep: str) -> Mapping[str, float]:
    """Answer the few entity rows of a file, reading none but their keys' rows."""
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {THREADS}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE spine AS FROM read_parquet('{spine}')")
        only = f"WHERE {KEY} IN (SELECT {KEY} FROM spine)"
        asked = statement(folder, views(features), OWN, only)
        answer(_beside([connection.execute(asked).to_arrow_table()]), keep)
    return {}


def statement(
    folder: str, asked: Mapping[str, Sequence[str]], own: Sequence[str], only: str = ""
) -> str:
    """Write the SQL that joins views to the entity rows, one ASOF join each."""
    days = f"INTERVAL {TTL.days} DAY"
    columns = [f"spine.{name}" for name in own] + [
        f"CASE WHEN {view}.{MOMENT} >= spine.{EVENT} - {days} THEN {view}.{name} END AS {name}"
        for view, names in asked.items()
        for name in names
    ]
    joins = [
        f"ASOF LEFT JOIN (FROM read_parquet('{Path(folder) / view}.parquet') {only}) AS {view} "
        f"ON spine.{KEY} = {view}.{KEY} AND spine.{EVENT} >= {view}.{MOMENT}"
        for view in asked
    ]
    return f"SELECT {', '.join(columns)} FROM spine {' '.join(joins)}"


def _beside(tables: Sequence[pa.Table]) -> pl.DataFrame:
    """Put answers side by side, by row number."""
    frames = [pl.DataFrame(table).sort(ROW) for table in tables]
    return pl.concat([frames[0], *(one.drop(ROW) for one in frames[1:])], how="horizontal")


if __name__ == "__main__":
    raise SystemExit(main(training, sampled))
