"""Tables in memory, and short ways to declare a view and to write its stored rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

from featurestore.model.catalog import Catalog
from featurestore.model.declare import batch_view
from featurestore.model.documents import Projection, Source, View
from featurestore.model.query import Query, resolve
from featurestore.model.schema import Column
from featurestore.model.time import (
    BEGINNING,
    CREATED,
    EVENT,
    KNOWN,
    MOMENT,
    REVISION,
    Interval,
    inside,
    known_at,
)
from featurestore.model.windows import stored_columns
from featurestore.storage.keys import bucket_of
from featurestore.training.tables import Parts

EVERYTHING = Interval(start=BEGINNING, end=2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPart:
    """One bucket of a view's stored rows; what is read of it is noted."""

    view: str
    bucket: int
    frame: pl.DataFrame
    reads: list[tuple[str, int, tuple[str, ...]]]

    @property
    def rows(self) -> int:
        return self.frame.height

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        self.reads.append((self.view, self.bucket, tuple(columns)))
        return self.frame.select(columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Stored rows by view name, in buckets; a view without intervals covers everything."""

    frames: Mapping[str, pl.DataFrame]
    intervals: Mapping[str, tuple[Interval, ...]] = field(default_factory=dict)
    reads: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)
    buckets: int = 1

    def parts(self, view: View, events: Interval) -> Parts:
        """Give every bucket's rows of just these events; buckets without rows are left out."""
        frame = self.frames[view.name].filter(inside(pl.col(EVENT), events))
        numbered = frame.with_columns(bucket_of(frame, view.join_keys, self.buckets).alias("__b"))
        split = numbered.partition_by("__b", as_dict=True, maintain_order=True, include_key=False)
        parts = [
            MemoryPart(view=view.name, bucket=bucket, frame=rows, reads=self.reads)
            for (bucket,), rows in split.items()
        ]
        return Parts(buckets=self.buckets, parts=tuple(parts), name=self.data_version(view))

    def covered(self, view: View) -> tuple[Interval, ...]:
        return self.intervals.get(view.name, (EVERYTHING,))

    def data_version(self, view: View) -> str:
        return f"{view.data_id[:16]}.0@7"


def make_view(
    name: str = "plane",
    *,
    keys: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    ttl: timedelta | None = None,
    delay: timedelta = timedelta(0),
    known: str = "created",
) -> View:
    """A view of plain columns; `keys` and `values` map names to dtypes."""
    keys = {"tailnum": "string"} if keys is None else keys
    values = {"value": "int64"} if values is None else values
    columns = {**keys, "at": "datetime", "made": "datetime", **values}
    source = Source(
        name=f"{name}_source",
        path=f"{name}.parquet",
        format="parquet",
        timestamp_field="at",
        created_field="made",
        columns=tuple(Column(name=n, dtype=d) for n, d in columns.items()),
    )
    return batch_view(
        name=name,
        join_keys=dict.fromkeys(keys),
        source=source,
        columns=tuple(values),
        ttl=ttl,
        delay=delay,
        known_at=known,
    )


def stored(view: View, rows: Mapping[str, Sequence[object] | pl.Series]) -> pl.DataFrame:
    """Stored rows from columns; times are integer microseconds or datetimes.

    Created times default to null, revisions to zero; known-at follows the view's rule.
    """
    size = len(next(iter(rows.values())))
    filled = {CREATED: [None] * size, REVISION: [0] * size, **rows}
    dtypes: dict[str, pl.DataType] = {column.name: column.polars for column in view.join_keys}
    dtypes |= {column.name: column.polars for column in stored_columns(view)}
    dtypes |= {EVENT: MOMENT, CREATED: MOMENT, REVISION: pl.UInt32()}
    frame = pl.DataFrame(
        [pl.Series(name, values, dtype=dtypes[name]) for name, values in filled.items()]
    )
    created = pl.col(CREATED) if view.known_at == "created" else None
    return frame.with_columns(known_at(pl.col(EVENT), created, view.delay).alias(KNOWN))


def ask(*views: View, full: bool = False) -> Query:
    """A query for all features of the views."""
    uses = [
        Projection(view=v.name, alias=v.name, features=tuple(f.name for f in v.features))
        for v in views
    ]
    return resolve(uses, Catalog(current={v.name: v for v in views}), full_feature_names=full)
