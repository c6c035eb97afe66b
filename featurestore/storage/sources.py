"""Reading raw rows from where users keep them: Parquet files, folders, globs, and Delta tables."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
from polars.exceptions import ComputeError, InvalidOperationError, PolarsError

from featurestore.errors import SourceError
from featurestore.model.documents import Source, View
from featurestore.model.names import suggest
from featurestore.model.time import (
    BEGINNING,
    MOMENT,
    Interval,
    known_at,
    normal_dtype,
    to_moment,
)
from featurestore.storage.keys import cast_keys

SCHEMES = frozenset({"", "file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
PRIVATE = "__"
"""Prefix of the columns `raw_rows` adds beside the source's own."""


def locate(path: str, root: Path) -> str:
    """Give where a path points: URLs as they are, relative paths under the repo's root.

    Raises:
        SourceError: the scheme is not one the store reads.
    """
    scheme = urlsplit(path).scheme.lower()
    if len(scheme) > 1:
        if scheme not in SCHEMES:
            known = ", ".join(sorted(SCHEMES - {""}))
            raise SourceError(f"{path}: cannot read {scheme}:// sources; supported are {known}")
        return path.removeprefix("file://") if scheme == "file" else path
    return str(root / path)


def scan(source: Source, root: Path, where: str) -> pl.LazyFrame:
    """Scan a source lazily under its own column names.

    Raises:
        SourceError: the file is missing, empty or no Parquet/Delta data; `where` is named.
    """
    path = locate(source.path, root)
    try:
        if source.format == "delta":
            frame = pl.scan_delta(path)
        else:
            frame = pl.scan_parquet(path, hive_partitioning=None)
        frame.collect_schema()
    except FileNotFoundError as error:
        raise SourceError(
            f"{where}.source: {source.path} is not there; check the path (relative to the "
            "feature repo) or write the file"
        ) from error
    except (PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(
            f"{where}.source: {source.path} cannot be read as {source.format}: {reason}"
        ) from error
    return frame


def raw_rows(view: View, root: Path, interval: Interval) -> pl.DataFrame:
    """Read the rows of a view's source that became known in `(start, end]`.

    The frame holds the columns the view's expressions read, under their names, and beside them
    `__event_timestamp`, `__created_timestamp` (null where there is none), `__known_at` (all UTC
    microseconds) and `__key_<name>` for every join key, cast to its declared dtype. Rows with a
    null event timestamp have a null `__known_at` and are kept, for the caller's filter to judge.

    Raises:
        SourceError: the source cannot be read or lacks a column, or a local time does not exist.
        InvalidRequest: a join key cannot be cast to its declared dtype.
    """
    source = view.source
    if source is None:
        raise SourceError(f"{view.name}: has no source; an on-demand view stores no rows")
    frame = _renamed(scan(source, root, view.name), source, view)
    schema = frame.collect_schema()
    zone = source.time_zone
    reads = {c.name for f in view.features for c in f.reads} | {c.name for c in view.filter_reads}
    event = to_moment(pl.col(source.timestamp_field), schema[source.timestamp_field], zone)
    created = (
        to_moment(pl.col(source.created_field), schema[source.created_field], zone)
        if source.created_field
        else pl.lit(None, MOMENT)
    )
    keys = {f"{PRIVATE}key_{k.name}": pl.col(k.name) for k in view.join_keys}
    lazy = frame.select(
        **{name: _coerced(name, schema[name], zone) for name in sorted(reads)},
        **keys,
        __event_timestamp=event,
        __created_timestamp=created,
    ).with_columns(
        __known_at=known_at(
            pl.col("__event_timestamp"),
            pl.col("__created_timestamp") if view.known_at == "created" else None,
            view.delay,
        )
    )
    known = pl.col("__known_at")
    inside = known <= pl.lit(interval.end).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if interval.start > BEGINNING:
        inside &= known > pl.lit(interval.start).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    try:
        rows = lazy.filter(inside | pl.col("__event_timestamp").is_null()).collect()
    except (ComputeError, InvalidOperationError) as error:
        raise SourceError(
            f"{view.name}.source: {str(error).splitlines()[0]}; a local time that a clock change "
            "makes ambiguous or skips has no single meaning: store UTC upstream"
        ) from error
    except (PolarsError, OSError) as error:
        raise SourceError(
            f"{view.name}.source: {source.path} cannot be read: {str(error).splitlines()[0]}"
        ) from error
    renamed = {f"{PRIVATE}key_{k.name}": k.name for k in view.join_keys}
    keyed = rows.select(renamed.keys()).rename(renamed)
    cast = cast_keys(keyed, view.join_keys, f"{view.name}.source")
    return rows.with_columns(cast.rename({name: private for private, name in renamed.items()}))


def rows_known_by(view: View, root: Path, end: int) -> int:
    """Count the source rows known at or before a moment (UTC microseconds)."""
    return raw_rows(view, root, Interval(start=BEGINNING, end=end)).height


def _renamed(frame: pl.LazyFrame, source: Source, view: View) -> pl.LazyFrame:
    names = frame.collect_schema().names()
    renamed = frame.rename({old: new for old, new in source.field_mapping if old in names})
    have = renamed.collect_schema().names()
    for column in _needed(view, source):
        if column not in have:
            raise SourceError(
                f"{view.name}.source: column '{column}' is not in {source.path}"
                f"{suggest(column, have)}"
            )
    return renamed


def _needed(view: View, source: Source) -> Sequence[str]:
    reads = [c.name for f in view.features for c in f.reads] + [c.name for c in view.filter_reads]
    times = [source.timestamp_field, *filter(None, [source.created_field])]
    return [*(k.name for k in view.join_keys), *times, *reads]


def _coerced(name: str, dtype: pl.DataType, zone: str | None) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return to_moment(column, dtype, zone)
    return column.cast(normal_dtype(dtype))
