"""What training needs of stored tables, and nothing more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from featurestore.model.documents import View
from featurestore.model.time import Interval
from featurestore.storage.layout import table_schema


class Part(Protocol):
    """The stored rows of one bucket, read column by column; it can be sent to another process."""

    @property
    def bucket(self) -> int:
        """Which bucket it is."""
        ...

    @property
    def rows(self) -> int:
        """How many rows it has."""
        ...

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Give some columns of all rows; every call gives the rows in the same order.

        There are the join keys, `event_timestamp`, `created_timestamp` (nullable), both UTC
        microseconds, `revision` (UInt32) and the features, in their declared dtypes. Rows are
        unique in (keys, event, created, revision).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmptyPart:
    """A bucket of a view in which there are no rows."""

    view: View
    bucket: int
    rows: int = 0

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Give some columns of no rows."""
        dtypes = table_schema(self.view)
        return pl.DataFrame(schema={name: dtypes[name] for name in columns})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """A table by bucket: entity rows whose keys fall in a bucket are answered by its part.

    A bucket without a part has no rows; `name` is that of the data. `files` and `bytes` count what
    there is to read, `pruned` and `pruned_bytes` what no entity row can need.
    """

    buckets: int
    parts: tuple[Part, ...]
    name: str = ""
    files: int = 0
    bytes: int = 0
    pruned: int = 0
    pruned_bytes: int = 0


class Tables(Protocol):
    """The stored rows of views, by their live tables."""

    def parts(self, view: View, events: Interval) -> Parts:
        """Give a view's rows by bucket: at least those with an event time in `(start, end]`."""
        ...

    def covered(self, view: View) -> tuple[Interval, ...]:
        """Give the merged known-at intervals whose rows the view's table holds."""
        ...

    def data_version(self, view: View) -> str:
        """Name the exact data that the parts hold, for the lock."""
        ...
