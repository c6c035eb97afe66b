"""From raw source rows to computed ones: what materialization, drafts and pushes share."""

import polars as pl

from featurestore.engine.transform import program, select, transform
from featurestore.errors import SourceError
from featurestore.model import expressions
from featurestore.model.documents import View
from featurestore.model.time import CREATED, EVENT, KNOWN
from featurestore.model.windows import NUMBER, numbered, stored_features


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
    made = program(stored_features(view), path=view.name)
    rows = transform(rows, made, keep=[*private, *own])
    return rows.rename(private).drop_nulls(keys)


def _refuse_null(view: View, rows: pl.DataFrame, name: str, column: str) -> None:
    without = rows[name].null_count()
    if without:
        raise SourceError(
            f"{view.name}.source: {without} rows have no '{column}'; drop them in the source or "
            f"with filter=pl.col('{column}').is_not_null()"
        )
