"""From a view's source to its rows: the one path that materialization and drafts share."""

from pathlib import Path

import polars as pl

from featurestore.engine.transform import program, select, transform
from featurestore.errors import SourceError
from featurestore.model import expressions
from featurestore.model.documents import View
from featurestore.model.time import CREATED, EVENT, KNOWN, Interval
from featurestore.storage.rows import RowLayout, row_columns
from featurestore.storage.sources import raw_rows

CANONICAL = "__canonical"


def feature_rows(view: View, root: Path, interval: Interval) -> pl.DataFrame:
    """Compute a view's rows that became known in an interval, from its source.

    Columns: join keys, event_timestamp, created_timestamp, known_at, features. Sorted by key, event
    and created time and unique in them: of rows equal in all three the one with the greatest
    canonical bytes stays, since no question could ever be answered by another. Rows with a null
    join key match nothing and are left out.

    Raises:
        SourceError: the source cannot be read, or a row has no event time.
        FeatureStoreError: a feature cannot be computed from a row; its path is named.
    """
    return computed(view, raw_rows(view, root, interval))


def computed(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Compute the rows that `feature_rows` gives, from raw rows.

    Raises:
        SourceError, FeatureStoreError: as `feature_rows` does.
    """
    if view.filter is not None:
        rows = select(rows, expressions.decode(view.filter, path=f"{view.name}.filter"))
    timeless = rows["__event_timestamp"].null_count()
    if timeless:
        column = view.source.timestamp_field if view.source else ""
        raise SourceError(
            f"{view.name}.source: {timeless} rows have no '{column}'; drop them in the source or "
            f"with filter=pl.col('{column}').is_not_null()"
        )
    keys = [k.name for k in view.join_keys]
    private = {
        **{f"__key_{key}": key for key in keys},
        "__event_timestamp": EVENT,
        "__created_timestamp": CREATED,
        "__known_at": KNOWN,
    }
    # One name for all of them: what is not needed any more must not stay in memory.
    rows = transform(rows, program(view.features, path=view.name), keep=list(private))
    rows = rows.rename(private).drop_nulls(keys)
    rows = rows.sort([*keys, EVENT, CREATED])
    return _unique(view, rows)


def _unique(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Leave one of rows with the same key and times, which stand beside each other."""
    identity = [*(k.name for k in view.join_keys), EVENT, CREATED]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in identity)
    again = rows.select(same).to_series()
    if not again.any():
        return rows
    twice = again | again.shift(-1, fill_value=False)
    tied = rows.filter(twice)
    winners = (
        tied.with_columns(canonical(view, tied))
        .sort([*identity, CANONICAL])
        .unique(identity, keep="last", maintain_order=True)
        .drop(CANONICAL)
    )
    return pl.concat([rows.filter(~twice), winners]).sort(identity)


def canonical(view: View, rows: pl.DataFrame) -> pl.Series:
    """Give each row's packed bytes at revision 0: equal rows have equal bytes, and they order."""
    packed = RowLayout(columns=row_columns(view)).encode(rows, rows[EVENT], rows[CREATED], 0)
    return pl.Series(CANONICAL, packed, dtype=pl.Binary)


def closed(start: int, end: int) -> Interval:
    """Give the interval of both ends included, as `materialize START END` means it."""
    return Interval(start=start - 1, end=end)
