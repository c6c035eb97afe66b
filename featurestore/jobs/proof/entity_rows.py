"""The entity rows that a verification asks about, made of keys that tables hold."""

from collections.abc import Mapping, Sequence

import polars as pl

from featurestore.model.documents import View
from featurestore.model.query import Query
from featurestore.model.schema import Column

ROW = "__row"
"""The column that numbers the entity rows; it gives a frame its height where there are no keys."""

VALUES = (None, 0.0, 1.0, 2.0, 7.0, 12.5, 100.0)
"""Request data to vary: what every dtype can hold."""

FEW = 30
"""Entity rows that meet all request data; the others meet some."""

_VALUE = "__value"
_STRIDE = 7


def entity_rows(query: Query, keys: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Give entity rows for a query, out of the sampled keys of its views (by view id), numbered.

    Each lookup's keys come once, with keys of the other lookups beside them, or nulls where those
    have none; then a row of nulls. Where there is request data a few rows come as often as it takes
    to vary them.
    """
    schema = {column.name: column.polars for column in query.entities}
    parts = [pl.DataFrame(schema=schema)]
    for leading in query.lookups:
        rows = _callers(keys, leading.view, leading.keys)
        for other in query.lookups:
            beside = _callers(keys, other.view, other.keys)
            lacking = [name for name in beside.columns if name not in rows.columns]
            if lacking and beside.height:
                places = pl.int_range(rows.height, eager=True) * _STRIDE % beside.height
                rows = rows.hstack(beside.select(lacking)[places])
        nulls = [pl.lit(None, dtype).alias(n) for n, dtype in schema.items() if n not in rows]
        parts.append(rows.with_columns(nulls).select(list(schema)) if rows.width else parts[0])
    spine = pl.concat(parts).unique(maintain_order=True).with_row_index(ROW)
    # Joined by number, the last row, which the keys lack, is one of nulls.
    order = pl.DataFrame(pl.int_range(spine.height + 1, dtype=pl.UInt32, eager=True).alias(ROW))
    spine = order.join(spine, on=ROW, how="left", maintain_order="left")
    spine = spine.with_columns(pl.col(ROW).cast(pl.Int64).alias(_VALUE))
    if query.request:
        again = (spine.head(FEW).with_columns(pl.col(_VALUE) + by) for by in range(1, len(VALUES)))
        spine = pl.concat([spine, *again])
    return spine.with_columns(pl.int_range(spine.height, eager=True).alias(ROW))


def with_request(rows: pl.DataFrame, query: Query, places: Sequence[int]) -> pl.DataFrame:
    """Give numbered entity rows request data that vary among some of `VALUES`, by their places."""
    wanted = pl.Series(places, dtype=pl.Int64)
    taken = wanted[rows[_VALUE] % len(wanted)]
    return rows.with_columns(_values(column)[taken].alias(column.name) for column in query.request)


def _callers(
    keys: Mapping[str, pl.DataFrame], view: View, named: Sequence[tuple[Column, str]]
) -> pl.DataFrame:
    """Give a view's sampled keys under the caller's names; one column may hold two keys."""
    if view.id not in keys:
        return pl.DataFrame(schema={caller: key.polars for key, caller in named})
    columns = {caller: keys[view.id][key.name].alias(caller) for key, caller in named}
    return pl.DataFrame(list(columns.values()))


def _values(column: Column) -> pl.Series:
    """Give `VALUES` as a dtype writes them: numbers without fractions where it has none."""
    dtype = column.polars
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    plain = pl.Series(column.name, VALUES, dtype=pl.Float64)
    if inner == pl.Boolean:
        values = plain > 1
    elif inner == pl.String:
        values = plain.cast(pl.String)
    else:
        values = plain.cast(pl.Int64).cast(inner) if inner != pl.Float64 else plain
    if isinstance(dtype, pl.List):
        return values.reshape((-1, 1)).arr.to_list()
    if isinstance(dtype, pl.Array):
        repeated = pl.col(column.name).repeat_by(dtype.size).cast(dtype)
        return values.to_frame().select(repeated).to_series()
    return values
