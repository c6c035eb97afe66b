"""DuckDB's ASOF join over the raw Parquet files, in 2 threads, at its fastest and leanest.

Entity rows are scanned from their file, which took less memory than a table in memory and no more
time. The answer is an Arrow table in any order, of a relation (a DB-API result copies the rows once
more): neither entity rows' order nor a conversion costs it anything.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from child import main, timed
from columns import EVENT, KEY, MOMENT, ROW, SPINE, TTL, views

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
    statements = (
        [statement(folder, {view: of}, (ROW,)) for view, of in asked.items()]
        if apart
        else [statement(folder, asked, OWN)]
    )
    with _connected(Path(folder) / SPINE) as connection:

        def work() -> list[pa.Table]:
            return [connection.sql(one).to_arrow_table() for one in statements]

        made, measured = timed(work)
        if keep is not None:
            pq.write_table(_beside(made, connection), keep)
    return measured


def sampled(*, folder: str, features: int, spine: str, keep: str) -> Mapping[str, float]:
    """Answer the few entity rows of a file, reading none but their keys' rows."""
    with _connected(Path(spine)) as connection:
        only = f"WHERE {KEY} IN (SELECT {KEY} FROM spine)"
        asked = statement(folder, views(features), OWN, only)
        pq.write_table(connection.sql(asked).to_arrow_table(), keep)
    return {}


def _connected(spine: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE VIEW spine AS FROM read_parquet('{spine}')")
    return connection


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


def _beside(tables: Sequence[pa.Table], connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Put answers side by side, by row number."""
    named = [f"answer{number}" for number in range(len(tables))]
    for name, table in zip(named, tables, strict=True):
        connection.register(name, table)
    others = "".join(f" JOIN {name} USING ({ROW})" for name in named[1:])
    return connection.sql(f"FROM {named[0]}{others}").to_arrow_table()


if __name__ == "__main__":
    raise SystemExit(main(training, sampled))
