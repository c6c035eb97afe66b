"""The offline store: one Delta table per table id, replaced interval by interval."""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from featurestore.errors import (
    Conflict,
    InvalidRequest,
    NotMaterialized,
    Unavailable,
)
from featurestore.model.documents import Table, View
from featurestore.model.time import (
    BEGINNING,
    BUCKET,
    EVENT,
    KNOWN,
    MOMENT,
    Interval,
    inside,
)
from featurestore.model.windows import row_order, stored_features
from featurestore.storage.damage import damaged, reading, writing
from featurestore.storage.files import DataFile, data_files, reader
from featurestore.storage.layout import (
    FOR_EVER,
    WHOLE,
    encoding,
    known_in,
    laid_out,
    partitions,
    stored_dtype,
    stored_schema,
    table_schema,
)
from featurestore.storage.parts import StoredPart, scan_files, verify
from featurestore.storage.remote import (
    cause,
    delta_files,
    delta_options,
    delta_place,
    is_remote,
    objects,
    open_delta,
    refusal,
    told,
)

# delta-rs takes a folder's name for a URL: it decodes %41, of a URL twice, and fails on brackets in
# a path (measured, 1.6).
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_UNWRITABLE = re.compile(rf"{_ENCODED.pattern}|[\[\]]")
# delta-rs copies what it is given at a time, and several at a time, in which case some of them
# change places: the larger they are, the fewer are out of order in a file.
_AT_ONCE = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A table by bucket, and how much of it is read and pruned."""

    parts: tuple[StoredPart, ...]
    files: int
    bytes: int
    pruned: int
    pruned_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What one replacement left: the table's new version and the files it added."""

    version: int
    files: tuple[DataFile, ...]


class OfflineStore:
    """Delta tables under a root folder or URL: `root/project/view/table id`.

    Raises:
        InvalidRequest: the folder's name is one that Delta cannot write to.
    """

    def __init__(self, root: str, project: str) -> None:
        if is_remote(root) and (reason := refusal(root)):
            raise InvalidRequest(f"offline_store.path: {reason}")
        if (_ENCODED if is_remote(root) else _UNWRITABLE).search(root):
            raise InvalidRequest(
                f"offline_store.path: Delta cannot write below {root!r}: brackets and percent "
                "signs in a folder's name mislead it; set FEATURESTORE_OFFLINE to another folder"
            )
        self._root = root.rstrip("/")
        self._project = project
        self.verified: set[tuple[str, str]] = set()

    def distrust(self) -> None:
        """Check the files again when they are next read: they may have changed since."""
        self.verified.clear()

    def path(self, view: View, table: Table) -> str:
        """Give the folder or URL of a table."""
        return f"{self._root}/{self._project}/{view.name}/{table.id}"

    def create(self, view: View, table: Table) -> None:
        """Make an empty table whose versions stay readable for ever, if it is not there yet.

        Raises:
            Conflict: another process is just making it.
            CorruptData: it is there, and its log cannot be read.
            Unavailable: its folder cannot be made.
        """
        empty = pl.DataFrame(schema=stored_schema(view, table))
        path = self.path(view, table)
        with writing(view, table):
            if not is_remote(path):
                Path(path).mkdir(parents=True, exist_ok=True)
            try:
                DeltaTable.create(
                    delta_place(path),
                    empty.to_arrow().schema,
                    mode="ignore",
                    partition_by=partitions(table),
                    name=view.name,
                    configuration=FOR_EVER,
                    storage_options=delta_options(path),
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            except CommitFailedError as error:
                if not DeltaTable.is_deltatable(delta_place(path), delta_options(path)):
                    raise Conflict(moved(view)) from error

    def drop(self, view_name: str, table: Table) -> None:
        """Remove a table's folder with all its versions; one that is gone already stays so.

        Raises:
            InvalidRequest: a link stands where the folder should be, or leads out of the root.
            Unavailable: the folder cannot be removed; what is left of it is of no use.
        """
        place = f"{self._root}/{self._project}/{view_name}/{table.id}"
        if is_remote(place):
            _drop_remote(view_name, place, (self._project, view_name, table.id))
            return
        root, below = Path(self._root).resolve(), (self._project, view_name, table.id)
        folder = root.joinpath(*below)
        if folder.resolve() != folder or folder.parts != (*root.parts, *below):
            raise InvalidRequest(
                f"{view_name}: {place} is no folder of its own below the offline root; see what "
                "the link there leads to, and delete it by hand"
            )
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unavailable(
                f"{view_name}: {error.filename} cannot be removed: {error.strerror}; mend that and "
                "collect again"
            ) from error

    def size(self, view: View, table: Table) -> tuple[int, int]:
        """Give the rows and bytes of a table's newest version, from its log; no data is read.

        Raises:
            NotMaterialized: the table does not exist.
            CorruptData: its log cannot be read.
        """
        opened = self.opened(view, table, None)
        with reading(view, table):
            files = pl.DataFrame(opened.get_add_actions(flatten=True))
        rows, size = files.select(pl.col("num_records", "size_bytes").sum()).row(0)
        return rows, size

    def version(self, view: View, table: Table) -> int:
        """Give the newest version of a table.

        Raises:
            NotMaterialized: the table does not exist.
        """
        return self.opened(view, table, None).version()

    def last_run(self, view: View, table: Table) -> str | None:
        """Give the run id that the newest version of a table was committed under, if any."""
        log = self._log(view, table, self.version(view, table))
        # delta-rs gives no history below a folder with a # or ? in its name (measured, 1.6).
        with reading(view, table), reader(log) as file:
            actions = [json.loads(line) for line in file.read().splitlines()]
        return next((one["commitInfo"].get("run") for one in actions if "commitInfo" in one), None)

    def replace(
        self,
        view: View,
        table: Table,
        interval: Interval,
        rows: pl.DataFrame,
        *,
        base: int,
        run: str,
    ) -> Commit:
        """Replace exactly the rows known in an interval, on the version the caller read.

        `rows` has the columns of `table_schema`; all must lie in the interval.

        Raises:
            Conflict: the table has moved past `base`; nothing was written.
            Unavailable: the files cannot be written; the table is as it was.
            ValueError: a row does not lie in the interval.
        """
        if not rows.select(inside(pl.col(KNOWN), interval).fill_null(value=False).all()).item():
            raise ValueError(f"{view.name}: a row was not known in the interval it is written for")
        opened = self.opened(view, table, base)
        if self.version(view, table) != base:
            raise Conflict(moved(view))
        before = set(delta_files(opened))
        stored = laid_out(view, table, rows)
        with writing(view, table):
            try:
                write_deltalake(
                    opened,
                    stored.to_arrow().to_reader(max_chunksize=_AT_ONCE),
                    mode="overwrite",
                    predicate=known_in(interval),
                    target_file_size=WHOLE,
                    writer_properties=encoding(view, table),
                    commit_properties=CommitProperties(
                        custom_metadata={"run": run}, max_commit_retries=0
                    ),
                )
            except CommitFailedError as error:
                raise Conflict(moved(view)) from error
        after = self.opened(view, table, base + 1)
        added = sorted(set(delta_files(after)) - before)
        return Commit(version=after.version(), files=data_files(added))

    def fence(self, view: View, table: Table, *, base: int) -> None:
        """Move a table's version without changing a row, so that older writers are refused.

        Raises:
            Conflict: the table has moved past `base` already.
        """
        nowhere = Interval(start=0, end=0)
        empty = pl.DataFrame(schema=table_schema(view))
        self.replace(view, table, nowhere, empty, base=base, run="")

    def added_files(self, view: View, table: Table, version: int) -> tuple[DataFile, ...]:
        """Give the files a version has that the one before has not, with their checksums."""
        before = set(delta_files(self.opened(view, table, version - 1)))
        after = delta_files(self.opened(view, table, version))
        return data_files(sorted(set(after) - before))

    def log_file(self, view: View, table: Table, version: int) -> DataFile:
        """Give the log of one version with its checksum: emptied, it reads as no change at all."""
        return data_files([self._log(view, table, version)])[0]

    def _log(self, view: View, table: Table, version: int) -> str:
        return f"{self.path(view, table)}/_delta_log/{version:020}.json"

    def rows(
        self,
        view: View,
        table: Table,
        *,
        features: Sequence[str] | None = None,
        version: int | None = None,
        known: Interval | None = None,
        checksums: dict[str, str] | None = None,
    ) -> pl.DataFrame:
        """Read the rows of a table with the dtypes of its document, in no particular order.

        Args:
            view: the view whose table it is.
            table: the table.
            features: the stored features wanted, inputs of windows among them (all by default).
            version: the Delta version to read (the newest by default).
            known: keep only rows that became known in this interval.
            checksums: sha256 by file path as the ledger recorded them; each file is verified once
                per process, until `distrust`.

        Raises:
            NotMaterialized: the table or version does not exist.
            CorruptData: a file's bytes are not those that were written.
        """
        lazy = self._scanned(view, table, version, known, checksums or {})
        schema = table_schema(view)
        if features is not None:
            dropped = {one.name for one in stored_features(view)} - set(features)
            schema = {n: d for n, d in schema.items() if n not in dropped}
        with reading(view, table):
            return lazy.select(schema.keys()).collect().cast(pl.Schema(schema))

    def batches(
        self,
        view: View,
        table: Table,
        chosen: pl.DataFrame,
        *,
        size: int,
        version: int | None = None,
        known: Interval | None = None,
        checksums: dict[str, str] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Read the rows whose keys, times and revision are in `chosen`, `size` at a time at most.

        Rows and batches come in no particular order, and as they are read: the table may be larger
        than memory. The rest is as it is for `rows`.
        """
        lazy = self._scanned(view, table, version, known, checksums or {})
        dtypes = table_schema(view)
        place = row_order(view)
        wanted = chosen.lazy().select(
            pl.col(name).cast(stored_dtype(dtypes[name])) for name in place
        )
        rows = lazy.select(dtypes.keys()).join(wanted, on=place, how="semi", nulls_equal=True)
        with reading(view, table):
            for batch in rows.collect_batches(chunk_size=size, maintain_order=False):
                yield batch.cast(pl.Schema(dtypes))

    def parts(
        self,
        view: View,
        table: Table,
        *,
        version: int,
        events: Interval,
        checksums: dict[str, str],
    ) -> Stored:
        """Give a table's rows by bucket, to be read later: the files with events in `(start, end]`.

        Which files they are is said by the table's log alone: a file without statistics is read.

        Raises:
            NotMaterialized: the table or version does not exist.
            CorruptData: the log is not what was written.
        """
        opened = self.checked(view, table, version, checksums)
        files = self._listed(view, table, opened)
        wanted = files.filter(_may_hold(events))
        if version < self.version(view, table) and any(map(_is_gone, wanted["file"])):
            raise NotMaterialized(
                f"{view.name}: version {version} of table {table.id} was vacuumed: no "
                "registered lock kept it; read the table as it is now"
            )
        by_bucket = wanted.sort(BUCKET, "first", "file").partition_by(BUCKET, maintain_order=True)
        read, there = (int(frame["bytes"].sum()) for frame in (wanted, files))
        return Stored(
            parts=tuple(
                StoredPart.of(view, table, files, checksums, self.verified) for files in by_bucket
            ),
            files=wanted.height,
            bytes=read,
            pruned=files.height - wanted.height,
            pruned_bytes=there - read,
        )

    def listed(self, view: View, table: Table) -> pl.DataFrame:
        """List the data files of a table's newest version, from its log.

        Columns: `file` (its path or URL), the columns that the table is partitioned by, `rows`,
        `bytes`, and `first` and `last` event time, null where the log does not say.

        Raises:
            NotMaterialized: the table does not exist.
            CorruptData: its log cannot be read.
        """
        return self._listed(view, table, self.opened(view, table, None))

    def _listed(self, view: View, table: Table, opened: DeltaTable) -> pl.DataFrame:
        with reading(view, table):
            actions = pl.DataFrame(opened.get_add_actions(flatten=True))
        ends = {"first": f"min.{EVENT}", "last": f"max.{EVENT}"}
        times = [
            (pl.col(name) if name in actions.columns else pl.lit(None)).cast(MOMENT).alias(end)
            for end, name in ends.items()
        ]
        return actions.select(
            pl.format("{}/{}", pl.lit(self.path(view, table)), "path").alias("file"),
            *(pl.col(f"partition.{name}").alias(name) for name in partitions(table)),
            pl.col("num_records").alias("rows"),
            pl.col("size_bytes").alias("bytes"),
            *times,
        )

    def columns(self, view: View, table: Table, names: Sequence[str]) -> pl.DataFrame:
        """Read some columns of all rows of a table's newest version, unchecked: for estimates.

        Raises:
            NotMaterialized: the table does not exist.
        """
        schema = {name: table_schema(view)[name] for name in names}
        lazy = _scan(self.opened(view, table, None), view, table)
        with reading(view, table):
            return lazy.select(names).collect().cast(pl.Schema(schema))

    def _scanned(
        self,
        view: View,
        table: Table,
        version: int | None,
        known: Interval | None,
        checksums: dict[str, str],
    ) -> pl.LazyFrame:
        """Scan a table's rows, as they are stored, after its files were verified."""
        opened = self.checked(view, table, version, checksums)
        verify(view, table, delta_files(opened), checksums, self.verified)
        lazy = _scan(opened, view, table)
        return lazy if known is None else lazy.filter(inside(pl.col(KNOWN), known))

    def checked(
        self, view: View, table: Table, version: int | None, checksums: dict[str, str]
    ) -> DeltaTable:
        """Open a version of a table, its log compared with what the ledger recorded of it."""
        try:
            opened = self.opened(view, table, version)
        except NotMaterialized as error:
            if checksums:
                raise damaged(view, f"table {table.id} lost its folder or log") from error
            raise
        logs = (self._log(view, table, number) for number in range(opened.version() + 1))
        verify(view, table, logs, checksums, self.verified)
        return opened

    def opened(self, view: View, table: Table, version: int | None) -> DeltaTable:
        """Open a version of a table (None: the newest).

        Raises:
            NotMaterialized: the table or version does not exist.
            CorruptData: its log cannot be read.
        """
        with reading(view, table):
            try:
                return open_delta(self.path(view, table), version)
            except TableNotFoundError as error:
                raise NotMaterialized(
                    f"{view.name}: {view.version} has no offline table; run "
                    "`featurestore materialize START END`"
                ) from error
            except DeltaError as error:
                if version is not None and self.version(view, table) < version:
                    raise NotMaterialized(
                        f"{view.name}: {view.version} has no offline version {version}; run "
                        "`featurestore materialize START END`"
                    ) from error
                raise


def moved(view: View) -> str:
    """Say that a table is no longer at the version that a writer read."""
    return (
        f"{view.name}: another writer moved the table while this run computed; nothing was "
        "written: run it again"
    )


def _drop_remote(view_name: str, place: str, below: tuple[str, ...]) -> None:
    """Remove the files of a table at a URL; a name that leads elsewhere is refused."""
    if any(not name or "/" in name or name.strip(".") == "" for name in below):
        raise InvalidRequest(
            f"{view_name}: {place} is no folder of its own below the offline root; delete it by "
            "hand"
        )
    try:
        objects(place).remove()
    except OSError as error:
        raise Unavailable(
            f"{view_name}: {place} cannot be removed: {told(error)}; mend that and collect again"
        ) from cause(error)


def _is_gone(file: str) -> bool:
    return not is_remote(file) and not Path(file).exists()


def _may_hold(events: Interval) -> pl.Expr:
    """Say whether a file may hold an event in an interval; statistics are cut to milliseconds."""
    wide = Interval(start=max(BEGINNING, events.start - 1000), end=events.end)
    first, last = (pl.col(name).to_physical() for name in ("first", "last"))
    outside = (first > wide.end) | (last <= wide.start)
    return ~outside.fill_null(value=False)


def _scan(opened: DeltaTable, view: View, table: Table) -> pl.LazyFrame:
    """Scan the data files by path: `scan_delta` fails where a name has a space."""
    files = delta_files(opened)
    if not files:
        return pl.LazyFrame(schema=stored_schema(view, table))
    return scan_files(files)
