"""The registry: immutable documents, heads, the ledger, releases and aliases, in SQL.

Any database SQLAlchemy speaks to will do; SQLite is the default. A document is written once; heads
and aliases move by compare-and-set inside a transaction, so two writers give both effects or one
`Conflict`, never a mixture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from featurestore.errors import Conflict, InvalidRequest, NotFound, Unavailable
from featurestore.model.documents import Project, Release, Service, Table, View, dump, load
from featurestore.model.names import suggest
from featurestore.model.time import Interval, union
from featurestore.storage.offline import DataFile

_META = sa.MetaData()
_TEXT = sa.Text()
_MICROS = sa.BigInteger()

_DOCUMENTS = sa.Table(
    "fs_documents",
    _META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, index=True),
    sa.Column("body", _TEXT, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
)
_HEADS = sa.Table(
    "fs_heads",
    _META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("body", _TEXT, nullable=False),
    sa.Column("applied", _MICROS, nullable=False),
)
_TABLES = sa.Table(
    "fs_tables",
    _META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("data_id", sa.String(64), primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("buckets", sa.Integer, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
)
_RUNS = sa.Table(
    "fs_runs",
    _META,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("project", sa.String(255), nullable=False, index=True),
    sa.Column("table_id", sa.String(64), nullable=False, index=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("start", _MICROS, nullable=False),
    sa.Column("end", _MICROS, nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("rows", _MICROS, nullable=False),
    sa.Column("base_version", _MICROS, nullable=False),
    sa.Column("delta_version", _MICROS),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("started", _MICROS, nullable=False),
    sa.Column("finished", _MICROS),
)
_FILES = sa.Table(
    "fs_files",
    _META,
    sa.Column("run", sa.String(32), primary_key=True),
    sa.Column("path", sa.String(1024), primary_key=True),
    sa.Column("table_id", sa.String(64), nullable=False, index=True),
    sa.Column("checksum", sa.String(64), nullable=False),
)
_LEASES = sa.Table(
    "fs_leases",
    _META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("expires", _MICROS, nullable=False),
)
_RELEASES = sa.Table(
    "fs_releases",
    _META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("body", _TEXT, nullable=False),
    sa.Column("created", _MICROS, nullable=False),
)
_ALIASES = sa.Table(
    "fs_aliases",
    _META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("moved", _MICROS, nullable=False),
)
_AUDIT = sa.Table(
    "fs_audit",
    _META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(255), nullable=False),
    sa.Column("at", _MICROS, nullable=False),
    sa.Column("who", sa.String(255), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("detail", _TEXT, nullable=False),
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is applied: the project's document and the revision that compare-and-set needs."""

    project: Project
    revision: int
    applied: int


class Registry:
    """All documents and facts of one project."""

    def __init__(self, engine: sa.Engine, project: str) -> None:
        self._engine = engine
        self._project = project

    @classmethod
    def open(cls, url: str, project: str, *, root: Path) -> "Registry":
        """Open a registry by SQLAlchemy URL; a relative SQLite path is relative to `root`.

        Raises:
            Unavailable: the database cannot be reached.
            InvalidRequest: the URL is not one SQLAlchemy understands.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise InvalidRequest(
                "registry.path: not a database URL; write sqlite:///data/registry.db or "
                "postgresql+psycopg://…"
            ) from error
        arguments: dict[str, object] = {}
        if parsed.get_backend_name() == "sqlite":
            arguments["timeout"] = 30
            if parsed.database and parsed.database != ":memory:":
                path = root / parsed.database
                path.parent.mkdir(parents=True, exist_ok=True)
                parsed = parsed.set(database=str(path))
        engine = sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=True)
        try:
            with engine.begin() as connection:
                for table in _META.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
        except SQLAlchemyError as error:
            shown = parsed.render_as_string(hide_password=True)
            raise Unavailable(f"registry: {shown} cannot be opened: {error.args[0]}") from error
        return cls(engine, project)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # -- heads and documents

    def head(self) -> Head | None:
        """Give what is applied now, or None before the first apply."""
        query = sa.select(_HEADS).where(_HEADS.c.project == self._project)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return Head(
            project=load(row["body"], Project), revision=row["revision"], applied=row["applied"]
        )

    def apply(self, project: Project, *, expected: int | None, now: int, who: str) -> Head:
        """Register all documents of a project and move the head, in one transaction.

        Raises:
            Conflict: the head is no longer at revision `expected` (None: no head yet).
        """
        body = dump(project)
        revision = 0 if expected is None else expected + 1
        try:
            with self._engine.begin() as connection:
                self._register(connection, [*project.views, *project.services], now)
                if expected is None:
                    connection.execute(
                        sa.insert(_HEADS).values(
                            project=self._project, revision=revision, body=body, applied=now
                        )
                    )
                else:
                    self._must_move(
                        connection.execute(
                            sa.update(_HEADS)
                            .where(
                                _HEADS.c.project == self._project, _HEADS.c.revision == expected
                            )
                            .values(revision=revision, body=body, applied=now)
                        ),
                        "apply",
                    )
                self._note(connection, now, who, "apply", f"revision {revision}")
        except IntegrityError as error:
            raise Conflict(_lost("apply")) from error
        return Head(project=project, revision=revision, applied=now)

    def _register(
        self, connection: sa.Connection, documents: Sequence[View | Service], now: int
    ) -> None:
        for document in documents:
            kind = "view" if isinstance(document, View) else "service"
            key = {"project": self._project, "kind": kind, "id": document.id}
            there = sa.select(_DOCUMENTS.c.id).filter_by(**key)
            if connection.execute(there).first() is None:
                values = {**key, "name": document.name, "body": dump(document), "created": now}
                connection.execute(sa.insert(_DOCUMENTS).values(values))

    def versions(self, view: str) -> tuple[View, ...]:
        """Give every registered version of a view, oldest first."""
        query = (
            sa.select(_DOCUMENTS.c.body)
            .where(
                _DOCUMENTS.c.project == self._project,
                _DOCUMENTS.c.kind == "view",
                _DOCUMENTS.c.name == view,
            )
            .order_by(_DOCUMENTS.c.created, _DOCUMENTS.c.id)
        )
        with self._engine.connect() as connection:
            return tuple(load(body, View) for body in connection.scalars(query))

    # -- tables, leases, the ledger

    def table(self, data_id: str) -> Table | None:
        """Give the newest generation of a data id's table, or None."""
        query = (
            sa.select(_TABLES)
            .where(_TABLES.c.project == self._project, _TABLES.c.data_id == data_id)
            .order_by(_TABLES.c.generation.desc())
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
                connection.execute(sa.insert(_TABLES).values(values))
        except IntegrityError:
            return self.table(table.data_id) or table
        return table

    def lease(self, name: str, owner: str, *, now: int, until: int) -> None:
        """Take or renew a lease; expired ones are taken over.

        Raises:
            Conflict: another owner holds it.
        """
        mine = sa.and_(_LEASES.c.project == self._project, _LEASES.c.name == name)
        free = sa.or_(_LEASES.c.owner == owner, _LEASES.c.expires < now)
        with self._engine.begin() as connection:
            taken = connection.execute(
                sa.update(_LEASES).where(mine, free).values(owner=owner, expires=until)
            )
        if taken.rowcount:
            return
        key = {"project": self._project, "name": name}
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(_LEASES).values(**key, owner=owner, expires=until))
        except IntegrityError as error:
            raise Conflict(
                f"{name}: another run holds the lease; wait for it to end, or until the lease "
                "of a dead run expires"
            ) from error

    def release_lease(self, name: str, owner: str) -> None:
        """Give a lease back, if it is still this owner's."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(_LEASES).where(
                    _LEASES.c.project == self._project,
                    _LEASES.c.name == name,
                    _LEASES.c.owner == owner,
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
            connection.execute(sa.insert(_RUNS).values(values))

    def commit_run(self, run: Run, delta_version: int, files: Sequence[DataFile]) -> None:
        """Record that a run's rows stand in the offline table."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(_RUNS)
                .where(_RUNS.c.id == run.id)
                .values(state="committed", delta_version=delta_version)
            )
            rows = [
                {"run": run.id, "path": f.path, "table_id": run.table_id, "checksum": f.checksum}
                for f in files
            ]
            if rows:
                connection.execute(sa.insert(_FILES), rows)

    def end_run(self, run: Run, state: RunState, *, now: int) -> None:
        """Record that a run is served or abandoned."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(_RUNS).where(_RUNS.c.id == run.id).values(state=state, finished=now)
            )

    def runs(self, table_id: str | None = None) -> tuple[Run, ...]:
        """Give the ledger, oldest first, of one table or of all."""
        query = sa.select(_RUNS).where(_RUNS.c.project == self._project)
        if table_id is not None:
            query = query.where(_RUNS.c.table_id == table_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_RUNS.c.started, _RUNS.c.id)).mappings()
            return tuple(_run(row) for row in rows)

    def covered(self, table_id: str) -> tuple[Interval, ...]:
        """Give the merged known-at intervals that committed runs of a table hold."""
        return union(
            run.interval for run in self.runs(table_id) if run.state in ("committed", "served")
        )

    def checksums(self, table_id: str) -> dict[str, str]:
        """Give the sha256 of every file the ledger knows of a table, by file path."""
        query = sa.select(_FILES.c.path, _FILES.c.checksum).where(_FILES.c.table_id == table_id)
        with self._engine.connect() as connection:
            return {path: checksum for path, checksum in connection.execute(query)}

    # -- releases and aliases

    def release(self, number: int) -> Release:
        """Give a release by number.

        Raises:
            NotFound: there is none of that number.
        """
        query = sa.select(_RELEASES.c.body).where(
            _RELEASES.c.project == self._project, _RELEASES.c.number == number
        )
        with self._engine.connect() as connection:
            body = connection.scalar(query)
        if body is None:
            raise NotFound(f"release {number}: there is no such release of {self._project}")
        return load(body, Release)

    def next_release(self) -> int:
        """Give the number a new release would get."""
        query = sa.select(sa.func.max(_RELEASES.c.number)).where(
            _RELEASES.c.project == self._project
        )
        with self._engine.connect() as connection:
            return (connection.scalar(query) or 0) + 1

    def aliases(self) -> dict[str, int]:
        """Give every alias with the number of its release."""
        query = sa.select(_ALIASES.c.name, _ALIASES.c.number).where(
            _ALIASES.c.project == self._project
        )
        with self._engine.connect() as connection:
            return {name: number for name, number in connection.execute(query)}

    def alias(self, name: str) -> Release:
        """Give the release an alias names.

        Raises:
            NotFound: the alias does not exist.
        """
        known = self.aliases()
        if name not in known:
            raise NotFound(
                f"{name}: no alias has this name{suggest(name, known)}; "
                "run `featurestore promote` first"
            )
        return self.release(known[name])

    def promote(
        self, release: Release, alias: str, *, expected: int | None, now: int, who: str
    ) -> None:
        """Write a new release and move an alias to it, in one transaction.

        Raises:
            Conflict: the number is taken, or the alias is no longer at `expected`.
        """
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    sa.insert(_RELEASES).values(
                        project=self._project,
                        number=release.number,
                        body=dump(release),
                        created=now,
                    )
                )
                values: Mapping[str, object] = {"number": release.number, "moved": now}
                if expected is None:
                    key = {"project": self._project, "name": alias}
                    connection.execute(sa.insert(_ALIASES).values(**key, **values))
                else:
                    mine = (_ALIASES.c.project == self._project, _ALIASES.c.name == alias)
                    moved = sa.update(_ALIASES).where(*mine, _ALIASES.c.number == expected)
                    self._must_move(connection.execute(moved.values(**values)), "promote")
                self._note(connection, now, who, "promote", f"{alias} → release {release.number}")
        except IntegrityError as error:
            raise Conflict(_lost("promote")) from error

    def _must_move(self, result: sa.CursorResult[tuple[object, ...]], action: str) -> None:
        if result.rowcount != 1:
            raise Conflict(_lost(action))

    def _note(
        self, connection: sa.Connection, now: int, who: str, action: str, detail: str
    ) -> None:
        connection.execute(
            sa.insert(_AUDIT).values(
                project=self._project, at=now, who=who, action=action, detail=detail
            )
        )


def _lost(action: str) -> str:
    return f"{action}: somebody else did so first; nothing was written: run `plan` and {action} again"


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
