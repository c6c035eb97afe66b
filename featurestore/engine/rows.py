"""From raw source rows to computed ones: what materialization, drafts and pushes share."""

from functools import lru_cache

import numpy as np
import polars as pl

from featurestore.engine.spans import Events, superseded
from featurestore.engine.transform import Program, program, select, transform
from featurestore.engine.windows import asked_of, window_values
from featurestore.errors import SourceError
from featurestore.model import expressions
from featurestore.model.documents import View
from featurestore.model.time import BEGINNING, CREATED, EVENT, KNOWN, REVISION
from featurestore.model.windows import (
    NUMBER,
    numbered,
    row_order,
    stored_features,
    windows,
)


def computed_rows(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Compute the rows of a view from raw rows (see `storage.sources.raw_rows`).

    Columns: join keys, event_timestamp, created_timestamp, known_at, the stored features, and the
    number of an event that has an id. Rows that the filter does not keep or with a null join key,
    which match nothing, are left out; the others stay in their order.

    Raises:
        SourceError: a row has no event time, or no event id.
        FeatureStoreError: a feature cannot be computed from a row; its path is named.
    """
    if view.filter is not None:
        rows = select(rows, expressions.decode(view.filter, path=f"{view.name}.filter"))
    own = [NUMBER] if numbered(view) else []
    event = view.source.timestamp_field if view.source else ""
    _refuse_null(view, rows, "__event_timestamp", event)
    for name in own:
        _refuse_null(view, rows, name, view.event_id or "")
    keys = [key.name for key in view.join_keys]
    private = {
        **{f"__key_{key}": key for key in keys},
        "__event_timestamp": EVENT,
        "__created_timestamp": CREATED,
        "__known_at": KNOWN,
    }
    # One name for all of them: what is not needed any more must not stay in memory.
    rows = transform(rows, _program(view), keep=[*private, *own])
    rows = pl.DataFrame([column.alias(private.get(column.name, column.name)) for column in rows])
    return rows.drop_nulls(keys) if any(rows[key].null_count() for key in keys) else rows


def windowed(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Compute windows over some stored rows, for each at the moment when it became known.

    Gives the rows by key and time, with the window features beside their own columns.
    """
    moving = windows(view)
    if not moving:
        return rows
    if REVISION not in rows.columns:
        rows = rows.with_columns(pl.lit(0, pl.UInt32).alias(REVISION))
    rows = rows.sort(row_order(view), nulls_last=False)
    names = [key.name for key in view.join_keys]
    turns = [pl.col(name).ne_missing(pl.col(name).shift()) for name in names]
    first = rows.select(pl.any_horizontal(pl.lit(value=False), *turns)).to_series().to_numpy()
    key = np.cumsum(first[1:] if len(first) else first, dtype=np.int64)
    key = np.append(np.zeros(min(1, rows.height), np.int64), key)
    event, created, known = (
        rows[name].to_physical().fill_null(BEGINNING).to_numpy() for name in (EVENT, CREATED, KNOWN)
    )
    gone = None
    if numbered(view):
        number, revision = (rows[name].cast(pl.Int64).to_numpy() for name in (NUMBER, REVISION))
        gone = superseded(
            key=key, number=number, created=created, revision=revision, event=event, known=known
        )
    starts = np.searchsorted(key, np.arange(int(key[-1]) + 2 if rows.height else 1))
    events = Events(starts=starts, event=event, known=known, gone=gone)
    return rows.with_columns(window_values(events, key, known, asked_of(moving), rows.select))


@lru_cache(maxsize=256)
def _program(view: View) -> Program:
    """Decode what is computed of a view's rows, once: pushes come often, and few rows at a time."""
    return program(stored_features(view), path=view.name)


def _refuse_null(view: View, rows: pl.DataFrame, name: str, column: str) -> None:
    without = rows[name].null_count()
    if without:
        raise SourceError(
            f"{view.name}.source: {without} rows have no '{column}'; drop them in the source or "
            f"with filter=pl.col('{column}').is_not_null()"
        )
