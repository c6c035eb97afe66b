"""The SQL database of a registry: its tables, and how it is opened.

Any database SQLAlchemy speaks to will do; SQLite is the default. Moments are UTC microseconds.
"""

from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from featurestore.errors import InvalidRequest, Unavailable, Unsupported

Engine = sa.Engine
META = sa.MetaData()
TEXT = sa.Text()
MICROS = sa.BigInteger()
_MAKING = 0x6673
"""The advisory lock under which PostgreSQL makes the tables."""

DOCUMENTS = sa.Table(
    "fs_documents",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, index=True),
    sa.Column("body", TEXT, nullable=False),
    sa.Column("created", MICROS, nullable=False),
)
HEADS = sa.Table(
    "fs_heads",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("body", TEXT, nullable=False),
    sa.Column("applied", MICROS, nullable=False),
)
TABLES = sa.Table(
    "fs_tables",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("data_id", sa.String(64), primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("buckets", sa.Integer, nullable=False),
    sa.Column("period", MICROS),
    sa.Column("created", MICROS, nullable=False),
    sa.Column("collected", MICROS),
    sa.Column("dropped", MICROS),
    sa.Column("checked_source", sa.String(64)),
    sa.Column("checked_run", sa.Integer),
)
RUNS = sa.Table(
    "fs_runs",
    META,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("project", sa.String(255), nullable=False, index=True),
    sa.Column("table_id", sa.String(64), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("start", MICROS, nullable=False),
    sa.Column("end", MICROS, nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("rows", MICROS, nullable=False),
    sa.Column("base_version", MICROS, nullable=False),
    sa.Column("delta_version", MICROS),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("started", MICROS, nullable=False),
    sa.Column("finished", MICROS),
    sa.Column("served", MICROS),
    sa.Column("repaired", MICROS),
)
PIECES = sa.Table(
    "fs_pieces",
    META,
    sa.Column("run", sa.String(32), primary_key=True),
    sa.Column("end", MICROS, primary_key=True),
    sa.Column("start", MICROS, nullable=False),
    sa.Column("table_id", sa.String(64), nullable=False, index=True),
    sa.Column("rows", MICROS, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)
FILES = sa.Table(
    "fs_files",
    META,
    sa.Column("run", sa.String(32), primary_key=True),
    sa.Column("path", sa.String(1024), primary_key=True),
    sa.Column("table_id", sa.String(64), nullable=False, index=True),
    sa.Column("checksum", sa.String(64), nullable=False),
)
LEASES = sa.Table(
    "fs_leases",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("expires", MICROS, nullable=False),
    sa.Column("process", sa.String(255), nullable=False),
    sa.Column("note", TEXT, nullable=False),
)
VERIFICATIONS = sa.Table(
    "fs_verifications",
    META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(255), nullable=False, index=True),
    sa.Column("table_id", sa.String(64), nullable=False, index=True),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("delta_version", MICROS, nullable=False),
    sa.Column("watermark", MICROS, nullable=False),
    sa.Column("checked", MICROS, nullable=False),
    sa.Column("mismatches", MICROS, nullable=False),
    sa.Column("at", MICROS, nullable=False),
    sa.Column("who", sa.String(255), nullable=False),
    sa.Column("alias", sa.String(255), nullable=False),
    sa.Column("candidate", sa.Boolean, nullable=False),
    sa.Column("everything", sa.Boolean, nullable=False),
)
RELEASES = sa.Table(
    "fs_releases",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("body", TEXT, nullable=False),
    sa.Column("created", MICROS, nullable=False),
    sa.Column("collected", MICROS),
)
ALIASES = sa.Table(
    "fs_aliases",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("moved", MICROS, nullable=False),
)
MOVES = sa.Table(
    "fs_moves",
    META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(255), nullable=False, index=True),
    sa.Column("alias", sa.String(255), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("previous", sa.Integer),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("at", MICROS, nullable=False),
)
LOCKS = sa.Table(
    "fs_locks",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("body", TEXT, nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("expires", MICROS),
    sa.Column("registered", MICROS, nullable=False),
    sa.Column("retired", MICROS),
)
SPELLINGS = sa.Table(
    "fs_spellings",
    META,
    sa.Column("project", sa.String(255), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    sa.Column("dialect", sa.String(64), primary_key=True),
    sa.Column("body", TEXT, nullable=False),
    sa.Column("evidence", TEXT, nullable=False),
    sa.Column("at", MICROS, nullable=False),
)
AUDIT = sa.Table(
    "fs_audit",
    META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(255), nullable=False),
    sa.Column("at", MICROS, nullable=False),
    sa.Column("who", sa.String(255), nullable=False),
    sa.Column("commit", sa.String(80)),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("detail", TEXT, nullable=False),
)


def open_engine(url: str, *, root: Path) -> sa.Engine:
    """Open a database by SQLAlchemy URL, with all tables made; SQLite paths start at `root`.

    Raises:
        Unavailable: the database cannot be reached.
        Unsupported: its driver is not installed.
        InvalidRequest: the URL is not one SQLAlchemy understands, or the tables are another
            release's.
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
            _make_folder(path.parent)
            parsed = parsed.set(database=str(path))
    shown = parsed.set(query={}).render_as_string(hide_password=True)
    try:
        engine = sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=True)
        with ExitStack() as failing:
            failing.callback(engine.dispose)
            with engine.begin() as connection:
                _make_tables(connection)
                _refuse_older(connection, shown)
            failing.pop_all()
    except ImportError as error:
        raise Unsupported(
            f"registry: {shown} needs a database driver that is not installed ({error}); pip "
            "install it"
        ) from error
    except SQLAlchemyError as error:
        raise Unavailable(
            f"registry: {shown} cannot be opened: {_told(error, parsed)}; check that it runs, and "
            "registry.path or FEATURESTORE_REGISTRY"
        ) from error

    def unavailable(context: sa.engine.ExceptionContext) -> None:
        failed = context.sqlalchemy_exception
        if failed is None or context.is_pre_ping:
            return
        if isinstance(failed, DataError):
            raise InvalidRequest(
                f"registry: {shown} does not take a value: {_told(failed, parsed)}; "
                "nothing was written"
            ) from context.original_exception
        if isinstance(failed, DBAPIError) and not isinstance(failed, IntegrityError):
            raise Unavailable(
                f"registry: {shown} does not answer: {_told(failed, parsed)}; nothing was written"
            ) from context.original_exception

    sa.event.listen(engine, "handle_error", unavailable)
    return engine


def _told(problem: SQLAlchemyError, url: sa.URL) -> str:
    """Give a driver's words on one line, without SQLAlchemy's link and without a password."""
    text = "; ".join(filter(None, map(str.strip, str(problem.args[0]).splitlines())))
    secrets = (url.password, url.query.get("password"))
    for secret in secrets:
        text = text.replace(secret, "***") if isinstance(secret, str) and secret else text
    return text


def _make_tables(connection: sa.Connection) -> None:
    """Make the tables and indexes that are not there.

    PostgreSQL fails where two do so at once, and waits for whoever writes to a table that is there.
    """
    if connection.dialect.name == "postgresql":
        if set(META.tables) <= set(sa.inspect(connection).get_table_names()):
            return
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
    for table in META.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in sorted(table.indexes, key=lambda one: str(one.name)):
            connection.execute(CreateIndex(index, if_not_exists=True))


def _refuse_older(connection: sa.Connection, shown: str) -> None:
    """Refuse tables that an earlier release made, which had fewer columns.

    Raises:
        InvalidRequest: columns are missing; the first is named.
    """
    found = sa.inspect(connection).get_multi_columns(filter_names=sorted(META.tables))
    for (_, name), columns in found.items():
        there = {column["name"] for column in columns}
        lacking = [column.name for column in META.tables[name].columns if column.name not in there]
        if lacking:
            raise InvalidRequest(
                f"registry: {shown} was made by an earlier release, whose {name} has no "
                f"{lacking[0]!r}; name a new one in registry.path, and apply, backfill and promote "
                "there"
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"registry: the folder {folder} cannot be made: {error.strerror}"
        ) from error
