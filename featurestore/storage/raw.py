"""From a source's columns to raw rows: times, keys and event numbers made of what is there.

It is the same whether the rows lie in a file, in the log of pushed rows, or were pushed just now.
"""

from collections.abc import Sequence

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.documents import Source, View
from featurestore.model.reads import event_id, needed, read_columns
from featurestore.model.time import MOMENT, known_at, normal_dtype, to_moment
from featurestore.model.windows import NUMBER, numbered
from featurestore.storage.keys import cast_keys, numbers_of

PRIVATE = "__"
"""Prefix of the columns that raw rows have beside the source's own."""


def timed(view: View, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Give what a view reads of a source's rows (under its names), and when they became known.

    Beside the columns the view's expressions read these are `__event_timestamp`,
    `__created_timestamp` (null where there is none), `__known_at` (all UTC microseconds) and
    `__key_<name>` for every join key, in the dtype that it has.
    """
    assert view.source is not None
    source, zone = view.source, view.source.time_zone
    schema = frame.collect_schema()
    reads = {c.name for c in read_columns(view)}
    event = to_moment(pl.col(source.timestamp_field), schema[source.timestamp_field], zone)
    created = (
        to_moment(pl.col(source.created_field), schema[source.created_field], zone)
        if source.created_field
        else pl.lit(None, MOMENT)
    )
    keys = {f"{PRIVATE}key_{k.name}": _zoned(k.name, schema[k.name], zone) for k in view.join_keys}
    return frame.select(
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


def keyed(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """Cast the join keys of raw rows to their declared dtypes, and number events that have an id.

    Raises:
        InvalidRequest: a join key cannot be cast to its declared dtype.
    """
    renamed = {f"{PRIVATE}key_{k.name}": k.name for k in view.join_keys}
    found = rows.select(renamed.keys()).rename(renamed)
    cast = cast_keys(found, view.join_keys, f"{view.name}.source")
    made = rows.with_columns(cast.rename({name: private for private, name in renamed.items()}))
    if not numbered(view):
        return made
    return made.with_columns(numbers_of(rows, event_id(view)).alias(NUMBER))


def raw_of(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Give the raw rows that a view reads of rows pushed just now, as reading its log would.

    Raises:
        InvalidRequest: a value does not fit the view's key, or the source as the view knows it.
    """
    assert view.source is not None
    try:
        return keyed(timed(view, aligned(rows.lazy(), needed(view), view.source)).collect(), view)
    except pl.exceptions.PolarsError as error:
        raise InvalidRequest(
            f"{view.version}: read source '{view.source.name}' when its dtypes were others; the "
            "row is not for this version"
        ) from error


def aligned(rows: pl.LazyFrame, names: Sequence[str], source: Source) -> pl.LazyFrame:
    """Give some columns of pushed rows in a source's dtypes; null where no push had them."""
    dtypes = {column.name: column.polars for column in source.columns}
    there = rows.collect_schema().names()
    return rows.select(
        (pl.col(name) if name in there else pl.lit(None)).cast(dtypes[name]).alias(name)
        for name in dict.fromkeys(names)
    )


def _zoned(name: str, dtype: pl.DataType, zone: str | None) -> pl.Expr:
    """Give a join key; a naive datetime is a local time, as it is in a feature."""
    if not isinstance(dtype, pl.Datetime):
        return pl.col(name)
    aware = pl.col(name) if dtype.time_zone else pl.col(name).dt.replace_time_zone(zone or "UTC")
    return aware.dt.convert_time_zone("UTC")


def _coerced(name: str, dtype: pl.DataType, zone: str | None) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return to_moment(column, dtype, zone)
    return column.cast(normal_dtype(dtype))
