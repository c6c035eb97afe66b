"""Entity rows laid out by the bucket of their keys, as all pieces of work share them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.model.query import Lookup
from featurestore.storage.keys import bucket_of
from featurestore.training.spine import Spine

_TIME = "\0"
Numbers = NDArray[np.uint32]
Order = tuple[tuple[str, ...], int]
"""By which of the caller's columns, and into how many buckets, entity rows are ordered."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spread:
    """Entity rows by bucket: those of bucket n are numbers `edges[n]` to `edges[n + 1]` of `order`.

    They ascend in each bucket. Without an order there is one bucket, of all rows as they come.
    """

    order: Numbers | None
    edges: tuple[int, ...]

    def segments(self, bucket: int, most: int) -> Iterator[tuple[int, int]]:
        """Cut the rows of a bucket into stretches of at most so many."""
        first, last = self.edges[bucket : bucket + 2]
        yield from pairwise((*range(first, last, most), last)) if last > first else ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asking:
    """What all pieces read of the entity rows: moments (UTC microseconds), keys, and orders."""

    time: pl.Series
    keys: pl.DataFrame
    orders: Mapping[Order, Numbers]

    def rows(self, order: Order, start: int, stop: int) -> tuple[pl.Series, pl.DataFrame]:
        """Give the moments and keys of a stretch of an order."""
        if order not in self.orders:
            return self.time[start:stop], self.keys[start:stop]
        rows = self.orders[order][start:stop]
        return self.time.gather(rows), self.keys.select(pl.col(order[0]).gather(rows))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as Arrow and NumPy buffers, which processes of one machine share uncopied."""
        return _arrived, (self.time.to_arrow(), self.keys.to_arrow(), dict(self.orders))


def _arrived(time: Any, keys: Any, orders: Mapping[Order, Numbers]) -> Asking:
    return Asking(time=pl.Series(time), keys=pl.DataFrame(keys), orders=orders)


def order_of(lookup: Lookup, buckets: int) -> Order:
    """Give what a lookup's entity rows are ordered by in a table of so many buckets."""
    return tuple(column for _, column in lookup.keys), buckets


def spread(spine: Spine, lookup: Lookup, buckets: int) -> Spread:
    """Lay entity rows out by the bucket of a lookup's keys; those with a null key are in bucket 0.

    Raises:
        ValueError: `buckets` is no power of two up to 65,536.
    """
    if buckets == 1:
        return Spread(order=None, edges=(0, len(spine)))
    keys = [spine.key(column).alias(key.name) for key, column in lookup.keys]
    # The moments give the frame its height where there are no keys.
    frame = pl.DataFrame([*keys, spine.time.alias(_TIME)])
    found = bucket_of(frame, [key for key, _ in lookup.keys], buckets)
    numbers = found.cast(pl.UInt16).to_numpy()
    edges = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=buckets))])
    order = np.argsort(numbers, kind="stable").astype(np.uint32)
    return Spread(order=order, edges=tuple(edges.tolist()))
