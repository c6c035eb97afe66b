"""What training needs of stored tables, and nothing more."""

from collections.abc import Sequence
from typing import Protocol

import polars as pl

from featurestore.model.documents import View
from featurestore.model.time import Interval


class Tables(Protocol):
    """The stored rows of views, by their live tables."""

    def rows(self, view: View, features: Sequence[str]) -> pl.DataFrame:
        """Give all rows of a view, in any order, unique in (keys, event, created).

        Columns: the join keys, `event_timestamp`, `created_timestamp` (nullable), `known_at` (all
        UTC microseconds; known_at is never before the event), `revision` (UInt32) and the features
        asked for in their declared dtypes.
        """
        ...

    def covered(self, view: View) -> tuple[Interval, ...]:
        """Give the merged known-at intervals whose rows the view's table holds."""
        ...

    def data_version(self, view: View) -> str:
        """Name the exact data `rows` reads, for the lock."""
        ...
