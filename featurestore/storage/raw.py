"""From a source's columns to raw rows: times, keys and event numbers made of what is there.

It is the same whether the rows lie in a file, in the log of pushed rows, or were pushed just now.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.documents import Source, View
from featurestore.model.reads import event_id, needed, read_columns
from featurestore.model.time import MOMENT, known_at, normal_dtype, to_moment
from featurestore.model.windows import NUMBER, numbered
from featurestore.storage.keys import cast_keys, numbers_of

PRIVATE = "__"
"""Prefix of the columns that raw rows have beside the source's own."""


Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
Schema = tuple[tuple[str, pl.DataType], ...]


def timed(view: View, frame: Frame) -> Frame:
    """Give what a view reads of a source's rows (under its names), and when they became known.

    Beside the columns the view's expressions read these are `__event_timestamp`,
    `__created_timestamp` (null where there is none), `__known_at` (all UTC microseconds) and
    `__key_<name>` for every join key, in the dtype that it has.
    """
    found, known = _timing(view, tuple(frame.collect_schema().items()))
    return frame.select(found).with_columns(known)


# Pushes come often and few rows at a time: what is asked of all of them is made once.
@lru_cache(maxsize=256)
def _timing(view: View, given: Schema) -> tuple[tuple[pl.Expr, ...], pl.Expr]:
    assert view.source is not None
    source, zone, schema = view.source, view.source.time_zone, dict(given)
    reads = {c.name for c in read_columns(view)}
    event = to_moment(pl.col(source.timestamp_field), schema[source.timestamp_field], zone)
    created = (
        to_moment(pl.col(source.created_field), schema[source.created_field], zone)
        if source.created_field
        else pl.lit(None, MOMENT)
    )
    keys = {f"{PRIVATE}key_{k.name}": _zoned(k.name, schema[k.name], zone) for k in view.join_keys}
    found = {
        **{name: _coerced(name, schema[name], zone) for name in sorted(reads)},
        **keys,
        "__event_timestamp": event,
        "__created_timestamp": created,
    }
    known = known_at(
        pl.col("__event_timestamp"),
        pl.col("__created_timestamp") if view.known_at == "created" else None,
        view.delay,
    )
    return tuple(expr.alias(name) for name, expr in found.items()), known.alias("__known_at")


def keyed(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """Cast the join keys of raw rows to their declared dtypes, and number events that have an id.

    Raises:
        InvalidRequest: a join key cannot be cast to its declared dtype.
    """
    keys = [rows[f"{PRIVATE}key_{k.name}"].alias(k.name) for k in view.join_keys]
    cast = cast_keys(pl.DataFrame(keys), view.join_keys, f"{view.name}.source")
    made = [column.alias(f"{PRIVATE}key_{column.name}") for column in cast]
    if numbered(view):
        made.append(numbers_of(rows, event_id(view)).alias(NUMBER))
    # Put together column by column, which for a few rows takes less than a query.
    columns = {column.name: column for column in (*rows.get_columns(), *made)}
    return pl.DataFrame(list(columns.values()))


def raw_of(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Give the raw rows that a view reads of rows pushed just now, as reading its log would.

    Raises:
        InvalidRequest: a value does not fit the view's key, or the source as the view knows it.
    """
    assert view.source is not None
    try:
        return keyed(timed(view, aligned(rows, needed(view), view.source)), view)
    except pl.exceptions.PolarsError as error:
        raise InvalidRequest(
            f"{view.version}: read source '{view.source.name}' when its dtypes were others; the "
            "row is not for this version"
        ) from error


def aligned(rows: Frame, names: Sequence[str], source: Source) -> Frame:
    """Give some columns of pushed rows in a source's dtypes; null where no push had them."""
    dtypes = {column.name: column.polars for column in source.columns}
    schema, wanted = rows.collect_schema(), dict.fromkeys(names)
    if all(schema.get(name) == dtypes[name] for name in wanted):
        return rows
    return rows.select(
        (pl.col(name) if name in schema else pl.lit(None)).cast(dtypes[name]).alias(name)
        for name in wanted
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
