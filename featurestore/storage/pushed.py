"""The logs of pushed rows: a Delta table per source, which a commit is appended to per push.

A log holds the source's columns under the names that expressions use, datetimes in UTC
microseconds; what a push left out is null. Nothing is ever taken out of it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from polars.exceptions import PolarsError

from featurestore.errors import Conflict, SourceError, Unavailable
from featurestore.model.documents import View
from featurestore.model.fingerprint import digest
from featurestore.model.reads import takes_pushed
from featurestore.storage.layout import FOR_EVER, stored_dtype
from featurestore.storage.remote import (
    cause,
    delta_files,
    delta_options,
    delta_place,
    is_remote,
    is_unreached,
    open_delta,
    told,
)

NONE = -1
"""The version of a log that is not there."""

MANY = 200
"""From how many files on a log is rewritten as few."""

# Delta decodes what is encoded, and reads brackets as patterns: other names get a digest's.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedLog:
    """The log of a source's pushed rows, in a folder or at a URL; it need not be there yet.

    Raises:
        SourceError: from each method: it cannot be read, or does not hold what it should.
        Unavailable: from each method: its place does not answer, or cannot be written to now.
    """

    source: str
    place: str

    def state(self) -> tuple[int, str]:
        """Give the newest version (`NONE`: there is no log) and what names this very log."""
        opened = self._opened(None)
        return (NONE, "") if opened is None else (opened.version(), str(opened.metadata().id))

    def scan(self, version: int | None = None) -> pl.LazyFrame | None:
        """Scan the rows pushed up to a version (None: all), as they are stored; None for none."""
        opened = None if version == NONE else self._opened(version)
        if opened is None:
            return None
        with self._reading():
            schema, files = pl.Schema(opened.schema().to_arrow()), delta_files(opened)
        if not files:
            return pl.LazyFrame(schema=schema)
        # A column that came later is missing in older files.
        return pl.scan_parquet(
            files, glob=False, hive_partitioning=False, schema=schema, missing_columns="insert"
        )

    def append(self, rows: pl.DataFrame) -> int:
        """Commit rows at the log's end, whoever else does so at the time; gives the version.

        A column that the log has is stored in the dtype that it has there.
        """
        opened = self._opened(None) or self._made(rows)
        with self._reading():
            kept = pl.Schema(opened.schema().to_arrow())
        stored = rows.select(self._stored(rows[name], kept.get(name)) for name in rows.columns)
        with self._writing():
            write_deltalake(
                opened,
                stored.to_arrow(),
                mode="append",
                schema_mode="merge" if set(stored.columns) != set(kept) else None,
                writer_properties=WriterProperties(compression="SNAPPY"),
            )
            return opened.version()

    def compact(self, *, many: int = MANY) -> bool:
        """Rewrite the files as few if there are many; says whether it did. Versions stay."""
        opened = self._opened(None)
        if opened is None or len(opened.file_uris()) < many:
            return False
        # Who appends meanwhile is in nobody's way; who compacts, too, has done it for us.
        with self._writing(), suppress(CommitFailedError):
            opened.optimize.compact()
        return True

    def _stored(self, column: pl.Series, kept: pl.DataType | None) -> pl.Series:
        dtype = stored_dtype(column.dtype) if kept is None else kept
        try:
            return column.cast(dtype)
        except PolarsError as error:
            raise SourceError(
                f"{self.source}.{column.name}: the log of pushed rows holds {dtype}, and rows are "
                f"{column.dtype} now; give the column, or the source, another name"
            ) from error

    def _made(self, rows: pl.DataFrame) -> DeltaTable:
        """Make an empty log whose versions stay readable for ever, or open another's."""
        schema = {name: stored_dtype(dtype) for name, dtype in rows.schema.items()}
        with self._writing():
            if not is_remote(self.place):
                Path(self.place).mkdir(parents=True, exist_ok=True)
            with suppress(CommitFailedError):
                DeltaTable.create(
                    delta_place(self.place),
                    pl.DataFrame(schema=schema).to_arrow().schema,
                    mode="ignore",
                    configuration=FOR_EVER,
                    storage_options=delta_options(self.place),
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            opened = self._opened(None)
        if opened is None:
            raise Conflict(f"{self.source}: somebody else is just making its log; push again")
        return opened

    def _opened(self, version: int | None) -> DeltaTable | None:
        with self._reading():
            try:
                return open_delta(self.place, version)
            except TableNotFoundError:
                if version is None:
                    return None
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (DeltaError, PolarsError, OSError) as error:
            if is_unreached(error):
                raise self._unavailable(error) from cause(error)
            raise SourceError(
                f"{self.source}: its log of pushed rows at {self.place} cannot be read "
                f"({told(error)}); bring it back from a copy, or move it away and push its rows "
                "again"
            ) from cause(error)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from cause(error)

    def _unavailable(self, error: BaseException) -> Unavailable:
        return Unavailable(
            f"{self.source}: its log of pushed rows at {self.place} cannot be reached or written "
            f"({told(error)}); mend that and push again"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where sources lie: `repo` is the folder of relative paths, `pushed` that of their logs.

    Without the latter nothing was ever pushed.
    """

    repo: Path
    pushed: str | None = None

    def log(self, source: str) -> PushedLog | None:
        """Give the log of a source by its logical name."""
        if self.pushed is None:
            return None
        plain = _PLAIN.fullmatch(source) is not None
        folder = source if plain else f"_{digest('pushed', source)[:32]}"
        return PushedLog(source=source, place=f"{self.pushed}/{folder}")

    def log_of(self, view: View) -> PushedLog | None:
        """Give the log whose rows are a view's, if any are."""
        if view.source is None or not takes_pushed(view):
            return None
        return self.log(view.source.name)
