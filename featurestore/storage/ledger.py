"""The ledger: which tables there are, who holds their leases, and every run that wrote to them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from featurestore.errors import Conflict
from featurestore.model.documents import Table
from featurestore.model.pieces import Checked, Piece, Read, standing
from featurestore.model.time import Interval, union
from featurestore.storage import pieces, sql
from featurestore.storage.documents import Author, Turn
from featurestore.storage.files import DataFile
from featurestore.storage.leases import Leases

_TABLES, _RUNS = sql.TABLES.c, sql.RUNS.c

RunState = Literal["writing", "committed", "served", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One row of the ledger: an interval of a table, from one state of its source.

    `writing` has announced itself, `committed` stands in the offline table, `served` in Redis too,
    where it wrote `served` rows and `repaired` keys; `abandoned` never reached the table. `source`
    is empty where its state is not known. Times are UTC microseconds.
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
    served: int | None = None
    repaired: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification of a table found: of `checked` values, `mismatches` were not the same.

    It held for a version at a Delta version and watermark. Times are UTC microseconds. `alias` is
    what it was asked for (empty: of the table alone), as a `candidate` for promotion or as it is
    live, of `everything` or a sample of the entities.
    """

    table_id: str
    version: str
    delta_version: int
    watermark: int
    checked: int
    mismatches: int
    at: int
    who: str
    alias: str = ""
    candidate: bool = False
    everything: bool = False


class Ledger(Leases):
    """The tables, leases, runs and verifications of one project."""

    def table(self, data_id: str) -> Table | None:
        """Give the newest generation of a data id's table that was not collected, or None."""
        found = self._tables(_TABLES.data_id == data_id, _TABLES.collected.is_(None))
        return found[-1] if found else None

    def tables(self) -> tuple[Table, ...]:
        """Give every table that was not collected, by data id and generation."""
        return self._tables(_TABLES.collected.is_(None))

    def collected(self) -> tuple[Table, ...]:
        """Give the tables that were collected and whose data is not dropped yet."""
        return self._tables(_TABLES.collected.is_not(None), _TABLES.dropped.is_(None))

    def _tables(self, *matching: sa.ColumnElement[bool]) -> tuple[Table, ...]:
        query = (
            sa.select(_TABLES.data_id, _TABLES.generation, _TABLES.buckets, _TABLES.period)
            .where(_TABLES.project == self._project, *matching)
            .order_by(_TABLES.data_id, _TABLES.generation)
        )
        with self._engine.connect() as connection:
            return tuple(Table(**row) for row in connection.execute(query).mappings())

    def next_table(self, data_id: str) -> Table:
        """Give a new generation of a data id's table: one past all there ever were.

        A generation is never used again, so a file or key of a collected one is never misread.
        """
        used = self._tables(_TABLES.data_id == data_id)
        generation = used[-1].generation + 1 if used else 0
        return Table(data_id=data_id, generation=generation)

    def add_table(self, table: Table, *, now: int) -> Table:
        """Record a table; if another process recorded its generation first, give the newest.

        Raises:
            Conflict: that generation was collected meanwhile.
        """
        values = {
            "project": self._project,
            "data_id": table.data_id,
            "generation": table.generation,
            "buckets": table.buckets,
            "period": table.period,
            "created": now,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(sql.TABLES).values(values))
        except IntegrityError as error:
            first = self.table(table.data_id)
            if first is None:
                raise Conflict(
                    f"table {table.id}: was made and collected by somebody else; run it again"
                ) from error
            return first
        return table

    def collect_table(
        self,
        table: Table,
        *,
        now: int,
        turn: Turn | None = None,
        noted: tuple[Author, str] | None = None,
    ) -> bool:
        """Mark a table as collected: nobody is given it any more; False if it already was.

        Only while it is our turn; `noted` is who does it and what the audit says of it.

        Raises:
            Conflict: the turn is over; nothing was written.
        """
        mine = (*self._one(table), _TABLES.collected.is_(None))
        with self._engine.begin() as connection:
            if turn is not None:
                turn.must_hold(connection, self._project)
            marking = sa.update(sql.TABLES).where(*mine).values(collected=now)
            marked = bool(connection.execute(marking).rowcount)
            if marked and noted is not None:
                author, detail = noted
                author.note(connection, "collect", detail)
        return marked

    def drop_table(self, table: Table, *, now: int) -> None:
        """Record that the data of a collected table is gone."""
        mine = (*self._one(table), _TABLES.collected.is_not(None))
        with self._engine.begin() as connection:
            connection.execute(sa.update(sql.TABLES).where(*mine).values(dropped=now))

    def _one(self, table: Table) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            _TABLES.project == self._project,
            _TABLES.data_id == table.data_id,
            _TABLES.generation == table.generation,
        )

    def start_run(self, run: Run, reads: Sequence[Read] = ()) -> None:
        """Announce a run in the ledger before its commit, with what it read, piece by piece.

        The runs of a table are numbered in the order in which they are announced.
        """
        others = sql.RUNS.alias()
        last = sa.select(sa.func.max(others.c.number)).where(others.c.table_id == run.table_id)
        values = {
            "id": run.id,
            "project": self._project,
            "table_id": run.table_id,
            "number": sa.func.coalesce(last.scalar_subquery(), 0) + 1,
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
            "served": run.served,
            "repaired": run.repaired,
        }
        with self._engine.begin() as connection:
            connection.execute(sa.insert(sql.RUNS).values(values))
            pieces.record(connection, run.id, run.table_id, reads)

    def commit_run(self, run: Run, delta_version: int, files: Sequence[DataFile]) -> None:
        """Record that a run's rows stand in the offline table.

        Raises:
            Conflict: the run was given up for dead, and another one finished it.
        """
        with self._engine.begin() as connection:
            moved = connection.execute(
                sa.update(sql.RUNS)
                .where(_RUNS.id == run.id, _RUNS.state == "writing")
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

    def end_run(
        self,
        run: Run,
        state: RunState,
        *,
        now: int,
        served: int | None = None,
        repaired: int | None = None,
    ) -> None:
        """Record that a run is served, with the rows and keys that it wrote, or abandoned."""
        ended = {"state": state, "finished": now, "served": served, "repaired": repaired}
        with self._engine.begin() as connection:
            connection.execute(sa.update(sql.RUNS).where(_RUNS.id == run.id).values(ended))

    def state(self, run: Run) -> RunState:
        """Give the state that a run is in now."""
        query = sa.select(_RUNS.state).where(_RUNS.id == run.id)
        with self._engine.connect() as connection:
            state: RunState = connection.execute(query).scalar_one()
        return state

    def runs(self, table_id: str | None = None) -> tuple[Run, ...]:
        """Give the ledger, oldest first, of one table or of all."""
        query = sa.select(sql.RUNS).where(_RUNS.project == self._project)
        if table_id is None:
            query = query.order_by(_RUNS.started, _RUNS.number, _RUNS.id)
        else:
            query = query.where(_RUNS.table_id == table_id).order_by(_RUNS.number, _RUNS.id)
        with self._engine.connect() as connection:
            return tuple(_run(row) for row in connection.execute(query).mappings())

    def pieces(self, table_id: str) -> tuple[Piece, ...]:
        """Give the pieces that stand in a table, ascending, each as its newest run read it."""
        with self._engine.connect() as connection:
            return standing(pieces.by_run(connection, self._project, table_id))

    def checked(self, table: Table) -> Checked | None:
        """Give up to which run, and in which state of the source, a table was found to be right."""
        query = sa.select(_TABLES.checked_source, _TABLES.checked_run).where(*self._one(table))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None or row.checked_source is None:
            return None
        return Checked(source=row.checked_source, number=row.checked_run)

    def check(self, table: Table, checked: Checked) -> None:
        """Record up to which run a table holds what its source does in a state."""
        values = {"checked_source": checked.source, "checked_run": checked.number}
        with self._engine.begin() as connection:
            connection.execute(sa.update(sql.TABLES).where(*self._one(table)).values(values))

    def covered(self, table_id: str) -> tuple[Interval, ...]:
        """Give the merged known-at intervals that committed runs of a table hold."""
        return union(
            run.interval for run in self.runs(table_id) if run.state in ("committed", "served")
        )

    def checksums(self, table_id: str) -> dict[str, str]:
        """Give the sha256 of every file the ledger knows of a table, by file path."""
        query = (
            sa.select(sql.FILES.c.path, sql.FILES.c.checksum)
            .join(sql.RUNS, _RUNS.id == sql.FILES.c.run)
            .where(_RUNS.project == self._project, sql.FILES.c.table_id == table_id)
        )
        with self._engine.connect() as connection:
            return {row.path: row.checksum for row in connection.execute(query)}

    def add_verification(self, verification: Verification) -> None:
        """Record what a verification of a table found."""
        values = {"project": self._project, **asdict(verification)}
        with self._engine.begin() as connection:
            connection.execute(sa.insert(sql.VERIFICATIONS).values(values))

    def verifications(self) -> tuple[Verification, ...]:
        """Give every verification, oldest first."""
        table = sql.VERIFICATIONS.c
        wanted = [table[field.name] for field in fields(Verification)]
        query = sa.select(*wanted).where(table.project == self._project).order_by(table.id)
        with self._engine.connect() as connection:
            return tuple(Verification(**row) for row in connection.execute(query).mappings())

    def written(self) -> dict[str, int]:
        """Give when each table, by id, was last worked on: made, or a run of it begun or ended."""
        made = sa.select(_TABLES.data_id, _TABLES.generation, _TABLES.created)
        last = sa.func.max(sa.func.coalesce(_RUNS.finished, _RUNS.started)).label("last")
        worked = sa.select(_RUNS.table_id, last).group_by(_RUNS.table_id)
        with self._engine.connect() as connection:
            rows = connection.execute(made.where(_TABLES.project == self._project))
            written = {
                Table(data_id=row.data_id, generation=row.generation).id: row.created
                for row in rows
            }
            for row in connection.execute(worked.where(_RUNS.project == self._project)):
                written[row.table_id] = max(row.last, written.get(row.table_id, row.last))
        return written


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
        served=row["served"],
        repaired=row["repaired"],
    )
