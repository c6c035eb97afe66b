"""Reading raw rows from where users keep them: Parquet files, folders, globs, and Delta tables.

They lie in folders or at URLs of object stores. The rows that were pushed to a source (see
`pushed`) are its rows too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape, has_magic
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import polars as pl
from deltalake.exceptions import DeltaError
from polars.exceptions import PanicException, PolarsError

from featurestore.errors import SourceError
from featurestore.model.documents import Source, View
from featurestore.model.names import suggest
from featurestore.model.reads import needed, read_columns
from featurestore.model.time import BEGINNING, Interval, inside, normal_dtype
from featurestore.storage.pushed import Roots
from featurestore.storage.raw import aligned, keyed, timed
from featurestore.storage.remote import (
    cause,
    delta_place,
    is_remote,
    is_unreached,
    objects,
    open_delta,
    refusal,
    shown,
    told,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The versions that a source is read at: its own, if it is a Delta table, and its log's.

    None is what each is when it is read.
    """

    version: int | None = None
    pushed: int | None = None


NOW = Pin()


def locate(path: str, root: Path) -> str:
    """Give where a path points: URLs as they are, relative paths under the repo's root.

    Raises:
        SourceError: the scheme is not one the store reads, or the URL keeps a password.
    """
    scheme = urlsplit(path).scheme.lower()
    if len(scheme) > 1:
        if scheme == "file":
            return unquote(urlsplit(path).path)
        if reason := refusal(path):
            raise SourceError(f"{shown(path)}: {reason}")
        return path
    return str(root / path)


def scan(source: Source, root: Path, where: str, version: int | None = None) -> pl.LazyFrame:
    """Scan a source lazily under its own column names, a Delta table at a version (None: now).

    Raises:
        SourceError: the file is missing, empty or no Parquet/Delta data; `where` is named.
    """
    path = locate(source.path, root)
    try:
        if source.format == "delta":
            frame = _scan_delta(path, version)
        elif _is_folder(f"{path.rstrip('/')}/_delta_log"):
            raise SourceError(
                f"{where}: {source.path} is a Delta table, and reading it as Parquet would show "
                "deleted rows; set file_format=DeltaFormat()"
            )
        else:
            frame = _scan_parquet(source, path, root)
        frame.collect_schema()
    except FileNotFoundError as error:
        raise _absent(source, where) from cause(error)
    except (PolarsError, DeltaError, OSError) as error:
        reason, way_out = _reason(error)
        if "paths were empty" in reason:
            raise _absent(source, where) from error
        raise SourceError(
            f"{where}: {source.path} cannot be read as {source.format}: {reason}; {way_out}, or "
            "say what it is with the source's file_format"
        ) from cause(error)
    return frame


def _scan_delta(path: str, version: int | None) -> pl.LazyFrame:
    remote = is_remote(path)
    if not (objects(path).is_folder() if remote else Path(path).exists()):
        raise FileNotFoundError(path)
    # Polars' own reader looks for the percent-encoded name of a folder.
    odd = (delta_place(path) if remote else quote(path)) != path
    return pl.scan_delta(open_delta(path, version), use_pyarrow=odd)


def _scan_parquet(source: Source, path: str, root: Path) -> pl.LazyFrame:
    magic = has_magic(source.path)
    if not is_remote(path):
        there = Path(path).exists()
        if not there and not magic:
            raise FileNotFoundError(path)
        return pl.scan_parquet(path if there else pattern(source.path, path, root), glob=not there)
    if objects(path).is_folder():
        return pl.scan_parquet(f"{path.rstrip('/')}/", glob=False)
    return pl.scan_parquet(path, glob=magic and not objects(path).is_file())


def _is_folder(path: str) -> bool:
    return objects(path).is_folder() if is_remote(path) else Path(path).is_dir()


def _reason(error: BaseException) -> tuple[str, str]:
    """Give why a source cannot be read, and the way out."""
    if is_unreached(error):
        return told(error), (
            "see that the object store answers, and that the environment says where it is and who "
            "asks"
        )
    return str(error).splitlines()[0], "write it again"


def pattern(path: str, located: str, root: Path) -> str:
    """Give a glob in which only what the user wrote is a pattern, not the repo's own folder."""
    return str(Path(escape(str(root))) / path) if located == str(root / path) else located


def _absent(source: Source, where: str) -> SourceError:
    what = "a Delta table" if source.format == "delta" else "a Parquet file"
    return SourceError(
        f"{where}: {source.path} is not there, or holds nothing; check the path (relative "
        f"to the feature repo) or write {what}"
    )


def raw_rows(view: View, roots: Roots, interval: Interval, pin: Pin = NOW) -> pl.DataFrame:
    """Read the rows of a view's source that became known in `(start, end]`.

    The frame holds the columns the view's expressions read, under their names, and beside them
    `__event_timestamp`, `__created_timestamp` (null where there is none), `__known_at` (all UTC
    microseconds) and `__key_<name>` for every join key, cast to its declared dtype; with windows
    and an event id also the number that stands for it. Rows with a null event timestamp have a null
    `__known_at` and are kept, for the caller's filter to judge.

    Raises:
        SourceError: the source cannot be read or lacks a column, or a local time does not exist.
        InvalidRequest: a join key cannot be cast to its declared dtype.
    """
    lazy = _timed(view, roots, pin)
    kept = inside(pl.col("__known_at"), interval) | pl.col("__event_timestamp").is_null()
    return keyed(_collect(lazy.filter(kept), view), view)


def pushed_rows(view: View, roots: Roots, interval: Interval) -> pl.DataFrame | None:
    """Read as `raw_rows` does, but only what was pushed; None if nothing ever was.

    Raises:
        SourceError, InvalidRequest: as `raw_rows` does.
    """
    log = roots.log_of(view)
    pushed = log.scan() if log else None
    if pushed is None or view.source is None:
        return None
    lazy = timed(view, aligned(pushed, needed(view), view.source))
    return keyed(_collect(lazy.filter(inside(pl.col("__known_at"), interval)), view), view)


def raw_batches(view: View, roots: Roots, end: int, pin: Pin = NOW) -> Iterator[pl.DataFrame]:
    """Read the rows known at or before a moment as `raw_rows` does, a part at a time, in no order.

    Raises:
        SourceError, InvalidRequest: as `raw_rows` does.
    """
    known = inside(pl.col("__known_at"), Interval(start=BEGINNING, end=end))
    batches = _timed(view, roots, pin).filter(known).collect_batches(maintain_order=False)
    with _reading(view):
        yield from (keyed(batch, view) for batch in batches)


def known_times(
    view: View, roots: Roots, interval: Interval, *, every: int = 1, pin: Pin = NOW
) -> pl.Series:
    """Read when every so many-th row of an interval became known, UTC microseconds, in no order.

    Raises:
        SourceError: the source cannot be read or lacks a column, or a local time does not exist.
    """
    known = _timed(view, roots, pin).select("__known_at")
    kept = known.filter(inside(pl.col("__known_at"), interval)).gather_every(every)
    return _collect(kept, view).to_series().to_physical()


def totals(
    view: View, roots: Roots, sums: Sequence[pl.Expr], pin: Pin = NOW
) -> tuple[int | None, ...]:
    """Aggregate all rows of a view's source, in one pass over what of `raw_rows` the sums read.

    Raises:
        SourceError: the source cannot be read or lacks a column, or a local time does not exist.
    """
    lazy = _timed(view, roots, pin).select(sums)
    with _reading(view):
        return lazy.collect(engine="streaming").row(0)


def extent(view: View, roots: Roots, end: int) -> tuple[int, int]:
    """Give how many source rows are known by a moment, and over how long: UTC microseconds.

    Raises:
        SourceError: the source cannot be read or lacks a column, or a local time does not exist.
    """
    known = pl.col("__known_at")
    until = inside(known, Interval(start=BEGINNING, end=end))
    span = (known.max() - known.min()).dt.total_microseconds().fill_null(0)
    found = _timed(view, roots, NOW).filter(until).select(pl.len(), span.alias("span"))
    rows, long = _collect(found, view).row(0)
    return int(rows), int(long)


def _timed(view: View, roots: Roots, pin: Pin) -> pl.LazyFrame:
    """Scan what `raw_rows` reads, at all times and with the keys' dtypes as they are stored."""
    source = view.source
    if source is None:
        raise SourceError(f"{view.name}: has no source; an on-demand view stores no rows")
    frame = scan(source, roots.repo, f"{view.name}.source", pin.version)
    frame = _renamed(frame, source, view)
    _check_times(source, frame.collect_schema(), view)
    landed = timed(view, frame)
    log = roots.log_of(view)
    pushed = log.scan(pin.pushed) if log else None
    if pushed is None:
        return landed
    both = [landed, timed(view, aligned(pushed, needed(view), source))]
    # Keys may differ in width; they are cast to their declared dtypes next.
    return pl.concat(both, how="vertical_relaxed")


def _collect(lazy: pl.LazyFrame, view: View) -> pl.DataFrame:
    with _reading(view):
        return lazy.collect()


@contextmanager
def _reading(view: View) -> Iterator[None]:
    try:
        yield
    except (PolarsError, PanicException, OSError) as error:
        raise SourceError(_unread(view, *_reason(error))) from cause(error)


def _unread(view: View, reason: str, way_out: str) -> str:
    if "ambiguous" in reason or "non-existent" in reason:
        return (
            f"{view.name}.source: {reason}; a local time that a clock change makes ambiguous or "
            "skips has no single meaning: store UTC upstream"
        )
    path = view.source.path if view.source else ""
    return f"{view.name}.source: {path} cannot be read: {reason}; {way_out}"


def _renamed(frame: pl.LazyFrame, source: Source, view: View) -> pl.LazyFrame:
    names = frame.collect_schema().names()
    mapping = {old: new for old, new in source.field_mapping if old in names}
    have = [mapping.get(name, name) for name in names]
    for column in mapping.values():
        if have.count(column) > 1:
            raise SourceError(
                f"{view.name}.source: field_mapping gives {source.path} two columns "
                f"called '{column}'; map one to another name"
            )
    renamed = frame.rename(mapping)
    for column in needed(view):
        if column not in have:
            raise SourceError(
                f"{view.name}.source: column '{column}' is not in {source.path}"
                f"{suggest(column, have)}"
            )
    _check_dtypes(renamed.collect_schema(), source, view)
    return renamed


def _check_dtypes(schema: pl.Schema, source: Source, view: View) -> None:
    """Refuse a column whose dtype is no longer the one that the version was made for."""
    for column in read_columns(view):
        found = normal_dtype(schema[column.name])
        if found != column.polars:
            raise SourceError(
                f"{view.name}.source: column '{column.name}' of {source.path} is {found}, and was "
                f"{column.dtype} when {view.version} was applied; cast it upstream, or run "
                "`featurestore apply` to make a new version"
            )


def _check_times(source: Source, schema: pl.Schema, view: View) -> None:
    """Refuse times that are numbers or text: what they count from could only be guessed."""
    for name in filter(None, (source.timestamp_field, source.created_field)):
        if not isinstance(schema[name], pl.Datetime | pl.Date):
            raise SourceError(
                f"{view.name}.source: column '{name}' of {source.path} is {schema[name]}, not a "
                "datetime; convert it upstream"
            )
