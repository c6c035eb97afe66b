"""What a view reads, at one state of its source: `scan` and `fingerprint` of intervals.

A warehouse would fit behind the same two methods.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.model.documents import View
from featurestore.model.pieces import Read
from featurestore.model.time import Interval, inside
from featurestore.storage.pushed import Roots
from featurestore.storage.source_state import SourceState, log_state, source_state
from featurestore.storage.sources import Pin, known_times, raw_batches, raw_rows, totals

_KNOWN = pl.col("__known_at")
_BY = f"1/{pl.__version__}/{platform.machine()}"
"""What a digest of rows depends on beside the rows: Polars may hash them otherwise next time."""

_SAMPLE = 100_000
"""From how many rows' times a long interval's shares are estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What a source holds in some intervals, and the first moment (None: never) it knows of."""

    reads: tuple[Read, ...]
    first: int | None


class ViewSource:
    """A view's source as it is when this is made; a Delta table and a log stay at their versions.

    Raises:
        SourceError, InvalidRequest: from each method, as `raw_rows` does.
    """

    def __init__(self, view: View, roots: Roots) -> None:
        self._view = view
        self._roots = roots
        self._log = log_state(roots.log_of(view))
        self._state = self._now()
        self._pin = Pin(version=self._state.version, pushed=self._log.version)

    @property
    def state(self) -> str:
        """What tells the source's states apart; empty where it cannot say."""
        return self._log.beside(self._state.name)

    def still(self) -> str:
        """Give the state if the source is still in it, so that all was read from it, else empty."""
        pinned = self._state.version is not None
        return self.state if pinned or self._now() == self._state else ""

    def _now(self) -> SourceState:
        source = self._view.source
        return SourceState() if source is None else source_state(source, self._roots.repo)

    def scan(self, interval: Interval) -> pl.DataFrame:
        """Read the rows that became known in an interval: what `raw_rows` gives."""
        return raw_rows(self._view, self._roots, interval, self._pin)

    def fingerprint(self, intervals: Sequence[Interval]) -> Fingerprint:
        """Digest what it holds in each of some disjoint ascending intervals, a batch at a time."""
        if not intervals:
            return Fingerprint(reads=(), first=None)
        found, end = _Sums(intervals), intervals[-1].end
        for batch in raw_batches(self._view, self._roots, end, self._pin):
            found.add(batch)
        return Fingerprint(reads=found.reads(), first=found.first)

    def counts(self, intervals: Sequence[Interval]) -> tuple[int, ...]:
        """Count the rows known in each of some intervals."""
        counts = [inside(_KNOWN, one).sum().cast(pl.Int64) for one in intervals]
        return tuple(one or 0 for one in self._totals(counts))

    def first(self) -> int | None:
        """Give the first moment that it knows a row of; None where it knows none."""
        return self._totals([_KNOWN.to_physical().min()])[0]

    def _totals(self, sums: Sequence[pl.Expr]) -> tuple[int | None, ...]:
        named = [one.alias(str(number)) for number, one in enumerate(sums)]
        return totals(self._view, self._roots, named, self._pin) if named else ()

    def shares(self, interval: Interval, most: int) -> tuple[Interval, ...]:
        """Cut an interval so that about `most` rows became known in each part, or fewer.

        Rows that became known at the same microsecond stay together.
        """
        (whole,) = self._totals([pl.len()])
        if (whole or 0) <= most:
            return (interval,)
        rows = self.counts([interval])[0]
        parts = -(-rows // most)
        if parts <= 1:
            return (interval,)
        times = known_times(
            self._view,
            self._roots,
            interval,
            every=max(1, rows // _SAMPLE),
            pin=self._pin,
        ).sort()
        edges = {int(times[len(times) * part // parts]) for part in range(1, parts)}
        inner = sorted(edge for edge in edges if interval.start < edge < interval.end)
        bounds = [interval.start, *inner, interval.end]
        return tuple(Interval(start=one, end=two) for one, two in pairwise(bounds))


def first_known(rows: pl.DataFrame) -> int | None:
    """Give the first moment that one of some raw rows became known; None where none did."""
    first = rows["__known_at"].to_physical().min()
    return first if isinstance(first, int) else None


def fingerprint(rows: pl.DataFrame, intervals: Sequence[Interval]) -> tuple[Read, ...]:
    """Digest the raw rows of each of some disjoint ascending intervals, as `ViewSource` does."""
    found = _Sums(intervals)
    found.add(rows)
    return found.reads()


class _Sums:
    """Rows counted and their hashes added up, by interval: sums know no order of rows."""

    def __init__(self, intervals: Sequence[Interval]) -> None:
        self._intervals = intervals
        self._starts = np.array([one.start for one in intervals], np.int64)
        self._ends = np.array([one.end for one in intervals], np.int64)
        self._rows = np.zeros(len(intervals), np.int64)
        self._sums = np.zeros(len(intervals), np.uint64)
        self.first: int | None = None

    def add(self, rows: pl.DataFrame) -> None:
        known = rows.filter(_KNOWN.is_not_null())
        first = first_known(known)
        if first is None:
            return
        self.first = first if self.first is None else min(first, self.first)
        times: NDArray[np.int64] = known["__known_at"].to_physical().to_numpy()
        place = np.searchsorted(self._ends, times)
        held = np.append(self._starts, np.iinfo(np.int64).max)[place] < times
        self._rows += np.bincount(place[held], minlength=len(self._rows))
        bits = known.select(_bits(name, dtype) for name, dtype in known.schema.items())
        np.add.at(self._sums, place[held], bits.hash_rows().to_numpy()[held])

    def reads(self) -> tuple[Read, ...]:
        found = zip(self._intervals, self._rows.tolist(), self._sums.tolist(), strict=True)
        return tuple(
            Read(interval=interval, rows=rows, digest=f"{_BY}:{total:016x}")
            for interval, rows, total in found
        )


def _bits(name: str, dtype: pl.DataType) -> pl.Expr:
    """Give floats as their bits: Polars hashes 0.0 and -0.0 alike."""
    column = pl.col(name)
    match dtype:
        case pl.Float64() | pl.Float32():
            return _integers(column, dtype)
        case pl.List(inner=pl.Float64() | pl.Float32() as inner):
            return column.list.agg(_integers(pl.element(), inner))
        case pl.Array(inner=pl.Float64() | pl.Float32() as inner):
            return column.arr.to_list().list.agg(_integers(pl.element(), inner))
    return column


def _integers(floats: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return floats.reinterpret(dtype=pl.UInt64 if dtype == pl.Float64 else pl.UInt32)
