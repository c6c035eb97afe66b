"""What each run read of its source, piece by piece, as the ledger keeps it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import sqlalchemy as sa

from featurestore.model.pieces import Piece, Read
from featurestore.model.time import Interval
from featurestore.storage import sql

_RUNS, _PIECES = sql.RUNS.c, sql.PIECES.c


def record(connection: sa.Connection, run: str, table_id: str, reads: Sequence[Read]) -> None:
    """Write down what a run read."""
    rows = [
        {
            "run": run,
            "table_id": table_id,
            "start": read.interval.start,
            "end": read.interval.end,
            "rows": read.rows,
            "digest": read.digest,
        }
        for read in reads
    ]
    if rows:
        connection.execute(sa.insert(sql.PIECES), rows)


def by_run(connection: sa.Connection, project: str, table_id: str) -> Iterator[list[Piece]]:
    """Give the pieces of each committed run of a table, oldest run first.

    The interval of a run that did not say what it read is one piece.
    """
    reads: dict[str, list[Read]] = {}
    pieces = sa.select(sql.PIECES).where(_PIECES.table_id == table_id).order_by(_PIECES.end)
    for row in connection.execute(pieces):
        interval = Interval(start=row.start, end=row.end)
        read = Read(interval=interval, rows=row.rows, digest=row.digest)
        reads.setdefault(row.run, []).append(read)
    runs = (
        sa.select(sql.RUNS)
        .where(
            _RUNS.project == project,
            _RUNS.table_id == table_id,
            _RUNS.state.in_(("committed", "served")),
        )
        .order_by(_RUNS.number, _RUNS.id)
    )
    for run in connection.execute(runs):
        whole = Piece(
            interval=Interval(start=run.start, end=run.end),
            read=None,
            source=run.source,
            number=run.number,
        )
        parts = [replace(whole, interval=one.interval, read=one) for one in reads.get(run.id, ())]
        yield parts or [whole]
