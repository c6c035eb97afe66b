"""The ledger: which tables there are, who holds their leases, and every run that wrote to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from featurestore.errors import Conflict
from featurestore.model.documents import Table
from featurestore.model.time import Interval, union
from featurestore.storage import sql
from featurestore.storage.offline import DataFile

RunState = Literal["writing", "committed", "served", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One row of the ledger: an interval of a table, from one state of its source.

    `writing` has announced itself, `committed` stands in the offline table, `served` in Redis too;
    `abandoned` never reached the table. Times are UTC microseconds.
    """

    id: str
    table_id: str
    view: str
    version: str
    interval: Interval
    source: str
    rows: int
    base_version: int
    delta_version: int | None
    state: RunState
    started: int
    finished: int | None = None


class Ledger:
    """The tables, leases and runs of one project."""

    def __init__(self, engine: sa.Engine, project: str) -> None:
        self._engine = engine
        self._project = project

    def table(self, data_id: str) -> Table | None:
        """Give the newest generation of a data id's table, or None."""
        query = (
            sa.select(sql.TABLES)
            .where(sql.TABLES.c.project == self._project, sql.TABLES.c.data_id == data_id)
            .order_by(sql.TABLES.c.generation.desc())
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return Table(data_id=data_id, generation=row["generation"], buckets=row["buckets"])

    def add_table(self, table: Table, *, now: int) -> Table:
        """Record a table; if another process recorded its generation first, give that one."""
        values = {
            "project": self._project,
            "data_id": table.data_id,
            "generation": table.generation,
            "buckets": table.buckets,
            "created": now,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(sql.TABLES).values(values))
        except IntegrityError:
            return self.table(table.data_id) or table
        return table

    def lease(self, name: str, owner: str, *, now: int, until: int) -> None:
        """Take or renew a lease; expired ones are taken over.

        Raises:
            Conflict: another owner holds it.
        """
        mine = sa.and_(sql.LEASES.c.project == self._project, sql.LEASES.c.name == name)
        free = sa.or_(sql.LEASES.c.owner == owner, sql.LEASES.c.expires < now)
        with self._engine.begin() as connection:
            taken = connection.execute(
                sa.update(sql.LEASES).where(mine, free).values(owner=owner, expires=until)
            )
        if taken.rowcount:
            return
        key = {"project": self._project, "name": name}
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    sa.insert(sql.LEASES).values(
                        **key, owner=owner, expires=until, process="", note=""
                    )
                )
        except IntegrityError as error:
            raise Conflict(
                f"{name}: another run holds the lease; wait for it to end, or until the lease "
                "of a dead run expires"
            ) from error

    def release_lease(self, name: str, owner: str) -> None:
        """Give a lease back, if it is still this owner's."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(sql.LEASES).where(
                    sql.LEASES.c.project == self._project,
                    sql.LEASES.c.name == name,
                    sql.LEASES.c.owner == owner,
                )
            )

    def start_run(self, run: Run) -> None:
        """Announce a run in the ledger before its commit."""
        values = {
            "id": run.id,
            "project": self._project,
            "table_id": run.table_id,
            "view": run.view,
            "version": run.version,
            "start": run.interval.start,
            "end": run.interval.end,
            "source": run.source,
            "rows": run.rows,
            "base_version": run.base_version,
            "delta_version": run.delta_version,
            "state": run.state,
            "started": run.started,
            "finished": run.finished,
        }
        with self._engine.begin() as connection:
            connection.execute(sa.insert(sql.RUNS).values(values))

    def commit_run(self, run: Run, delta_version: int, files: Sequence[DataFile]) -> None:
        """Record that a run's rows stand in the offline table.

        Raises:
            Conflict: the run was given up for dead, and another one finished it.
        """
        with self._engine.begin() as connection:
            moved = connection.execute(
                sa.update(sql.RUNS)
                .where(sql.RUNS.c.id == run.id, sql.RUNS.c.state == "writing")
                .values(state="committed", delta_version=delta_version)
            )
            if moved.rowcount != 1:
                raise Conflict(
                    f"{run.view}: this run outlived its lease and another one finished it; "
                    "run it again"
                )
            rows = [
                {"run": run.id, "path": f.path, "table_id": run.table_id, "checksum": f.checksum}
                for f in files
            ]
            if rows:
                connection.execute(sa.insert(sql.FILES), rows)

    def end_run(self, run: Run, state: RunState, *, now: int) -> None:
        """Record that a run is served or abandoned."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(sql.RUNS).where(sql.RUNS.c.id == run.id).values(state=state, finished=now)
            )

    def runs(self, table_id: str | None = None) -> tuple[Run, ...]:
        """Give the ledger, oldest first, of one table or of all."""
        query = sa.select(sql.RUNS).where(sql.RUNS.c.project == self._project)
        if table_id is not None:
            query = query.where(sql.RUNS.c.table_id == table_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(sql.RUNS.c.started, sql.RUNS.c.id)).mappings()
            return tuple(_run(row) for row in rows)

    def covered(self, table_id: str) -> tuple[Interval, ...]:
        """Give the merged known-at intervals that committed runs of a table hold."""
        return union(
            run.interval for run in self.runs(table_id) if run.state in ("committed", "served")
        )

    def checksums(self, table_id: str) -> dict[str, str]:
        """Give the sha256 of every file the ledger knows of a table, by file path."""
        query = sa.select(sql.FILES.c.path, sql.FILES.c.checksum).where(
            sql.FILES.c.table_id == table_id
        )
        with self._engine.connect() as connection:
            return {row.path: row.checksum for row in connection.execute(query)}


def _run(row: sa.RowMapping) -> Run:
    return Run(
        id=row["id"],
        table_id=row["table_id"],
        view=row["view"],
        version=row["version"],
        interval=Interval(start=row["start"], end=row["end"]),
        source=row["source"],
        rows=row["rows"],
        base_version=row["base_version"],
        delta_version=row["delta_version"],
        state=row["state"],
        started=row["started"],
        finished=row["finished"],
    )
