"""Entity rows for a call that brings none: every entity seen in a time range, as of its end."""

from collections.abc import Iterator

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.query import Lookup, Query
from featurestore.model.time import CREATED, EVENT, MOMENT, Interval, known_at, show
from featurestore.training.assemble import versions_of
from featurestore.training.coverage import require
from featurestore.training.join import columns_of, counts_created
from featurestore.training.tables import Tables

WINDOW = 30 * 86_400_000_000
"""How long the range is where neither its start nor a ttl says so, microseconds; as in Feast."""


def observed(
    query: Query,
    tables: Tables,
    start: int | None,
    end: int,
    *,
    as_known: bool,
    allow_stale: bool = False,
) -> pl.DataFrame:
    """Give the distinct join keys of rows with an event in [start, end], at the moment `end`.

    Columns: the join keys, sorted by them, and `event_timestamp`. Moments are UTC microseconds; a
    start that is not given is the longest ttl before the end, or 30 days, as in Feast. With
    `as_known` only rows known at the end count.

    Raises:
        InvalidRequest: the range is empty, or the views have different join keys.
        NotMaterialized: a table does not hold the whole range.
    """
    first = end - _longest(query) if start is None else start
    if first > end:
        raise InvalidRequest(
            f"start_date: {show(first)} is after end_date, {show(end)}; swap the two"
        )
    keyed = [one for one in versions_of(query) if one.keys]
    names = {tuple(sorted(column for _, column in one.keys)) for one in query.lookups if one.keys}
    if len(names) != 1:
        told = " and ".join(", ".join(one) for one in sorted(names)) or "none"
        raise InvalidRequest(
            "entity_df: without it all views must be of the same join keys, and these are of "
            f"{told}; pass entity rows, or ask for them one by one"
        )
    for view in (one.view for one in keyed):
        need = Interval(start=min(first + view.delay, end) - 1, end=end)
        require(view, need, tables.covered(view), allow_stale=allow_stale)
    found = [frame for one in keyed for frame in _seen(one, tables, first, end, as_known=as_known)]
    columns = sorted(names.pop())
    dtypes = {column.name: column.polars for column in query.entities}
    keys = pl.concat([pl.DataFrame(schema={name: dtypes[name] for name in columns}), *found])
    moment = pl.lit(end, pl.Int64).cast(MOMENT).alias(EVENT)
    return keys.unique().sort(columns).with_columns(moment)


def _seen(
    lookup: Lookup, tables: Tables, start: int, end: int, *, as_known: bool
) -> Iterator[pl.DataFrame]:
    view = lookup.view
    callers = [pl.col(key.name).alias(column) for key, column in lookup.keys]
    known = pl.col(EVENT)
    if as_known:
        created = pl.col(CREATED) if counts_created(view) else None
        known = known_at(pl.col(EVENT), created, view.delay)
    until = pl.lit(end, pl.Int64).cast(MOMENT)
    inside = (pl.col(EVENT) >= pl.lit(start, pl.Int64).cast(MOMENT)) & (pl.col(EVENT) <= until)
    for part in tables.parts(view, Interval(start=start - 1, end=end)).parts:
        rows = part.read(columns_of(view)).filter(inside & (known <= until))
        found = rows.select(callers).drop_nulls().unique()
        yield found.select(sorted(found.columns))


def _longest(query: Query) -> int:
    return max((one.view.ttl or 0 for one in query.lookups), default=0) or WINDOW
