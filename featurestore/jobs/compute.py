"""From a view's source to its rows: the one path that materialization and drafts share."""

import polars as pl

from featurestore.engine.rows import computed_rows
from featurestore.model.documents import View
from featurestore.model.time import Interval
from featurestore.storage.pushed import Roots
from featurestore.storage.sources import raw_rows
from featurestore.storage.unique import unique


def feature_rows(view: View, roots: Roots, interval: Interval) -> pl.DataFrame:
    """Compute a view's rows that became known in an interval, from its source.

    Columns: join keys, event_timestamp, created_timestamp, known_at, the stored features; with
    windows also each event's number. Sorted by key, event and created time (and number) and unique
    in them: of rows equal in all the one with the greatest canonical bytes stays, since no question
    could ever be answered by another. Rows with a null join key match nothing and are left out.

    Raises:
        SourceError: the source cannot be read, or a row has no event time or id.
        FeatureStoreError: a feature cannot be computed from a row; its path is named.
    """
    return computed(view, raw_rows(view, roots, interval))


def computed(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Compute the rows that `feature_rows` gives, from raw rows.

    Raises:
        SourceError, FeatureStoreError: as `feature_rows` does.
    """
    return unique(view, computed_rows(view, rows))


def closed(start: int, end: int) -> Interval:
    """Give the interval of both ends included, as `materialize START END` means it."""
    return Interval(start=start - 1, end=end)
