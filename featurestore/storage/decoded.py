"""Rows of Redis, read: their times, and their columns as arrays, texts and series."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.model.schema import Column, parse_dtype
from featurestore.storage.fixed import Bools, Group, cells_of, load, restore
from featurestore.storage.variable import check_texts, cut, unpack

if TYPE_CHECKING:
    from featurestore.storage.rows import RowLayout

SIGN = np.uint64(1 << 63)

Times = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A batch of rows, read; every array has one entry per row asked for, absent ones included.

    `event_time` is in UTC microseconds, and meaningless where a row is absent. `complete` says that
    all rows are there and none is a tombstone, `full` that every column of every row has a value.
    """

    layout: "RowLayout"
    rows: list[bytes] = field(repr=False)
    heads: NDArray[np.void] = field(repr=False)
    event_time: Times = field(repr=False)
    absent: tuple[bool, ...]
    complete: bool
    full: bool

    @property
    def present(self) -> Bools:
        """Whether each row is there."""
        return ~np.array(self.absent) if self.absent else np.ones(len(self.rows), np.bool_)

    @cached_property
    def valid(self) -> Bools:
        """Which columns of each row have a value: blocks in order, then variable columns."""
        columns = len(self.layout.columns)
        if self.full and self.complete:
            return np.ones((len(self.rows), columns), np.bool_)
        bits = np.unpackbits(self.heads["valid"], axis=1, count=columns, bitorder="little")
        valid: Bools = bits.view(np.bool_) & (self.heads["kind"] == 1)[:, None]
        return valid

    @property
    def tombstone(self) -> Bools:
        """Whether a row is there and says that the entity has no value."""
        tombstone: Bools = self.present & (self.heads["kind"] == 0)
        return tombstone

    @property
    def created(self) -> tuple[Times, Bools]:
        """Created times, UTC microseconds (0 where null), and whether each is there."""
        there = self.present & (self.heads["created"] != 0)
        return np.where(there, unbiased(self.heads["created"]), 0), there

    @property
    def revision(self) -> NDArray[np.uint32]:
        """Revisions; 0 where a row is absent."""
        return self.heads["revision"].astype(np.uint32)

    def values(self, number: int) -> tuple[NDArray[np.generic], Bools | None]:
        """Give the values of one block, by (row, column), and which elements of arrays are there.

        Nothing is copied; what is null is zero.
        """
        return cells_of(self.heads, number, self.layout.blocks[number])

    def group(self, number: int) -> Group:
        """Give the fixed-width columns of one block, without copying their values."""
        return load(self.heads, number, self.layout.blocks[number], self.valid)

    def series(self, name: str) -> pl.Series:
        """Give a column in its exact dtype, null where it has no value; see `columns`."""
        return self.columns([name])[0]

    def columns(self, names: Sequence[str]) -> list[pl.Series]:
        """Give columns in their exact dtypes, null where they have no value.

        Raises:
            KeyError: the layout has no such column.
            CorruptData: a variable-width value is not what its dtype says.
        """
        found: dict[str, pl.Series] = {}
        blocks: dict[int, list[str]] = {}
        for name in names:
            number, at = self.layout.places[name]
            if number is None:
                found[name] = self._variable(name, at)
            else:
                blocks.setdefault(number, []).append(name)
        for number, own in blocks.items():
            found |= self._fixed(own, number)
        return [found[name] for name in names]

    def texts(self, places: Sequence[int], shown: Bools | None) -> tuple[list[bytes], Bools]:
        """Give the UTF-8 of string columns, by their places among the variable ones.

        Column after column; empty where there is no value, or where the row is not `shown`. Beside
        it which are there, by (column, row).

        Raises:
            CorruptData: a string is not UTF-8.
        """
        lengths = self.heads["lengths"].astype(np.int64)
        ends = self.layout.dtype.itemsize + np.cumsum(lengths, axis=1)
        if shown is not None:
            lengths[~shown] = 0
        own = list(places)
        ends, starts = ends[:, own].T, (ends - lengths)[:, own].T
        cells = cut(self.rows * len(own), starts.reshape(-1), ends.reshape(-1))
        check_texts(cells, self.layout.variable[own[0]].name)
        first = len(self.layout.columns) - len(self.layout.variable)
        valid = self.valid[:, [first + at for at in own]].T
        return cells, valid if shown is None else valid & shown

    def frame(self) -> pl.DataFrame:
        """Give all columns in the order they were named, in their exact dtypes."""
        return pl.DataFrame(self.columns([column.name for column in self.layout.columns]))

    def _variable(self, name: str, at: int) -> pl.Series:
        lengths = self.heads["lengths"].astype(np.int64)
        ends = self.layout.dtype.itemsize + np.cumsum(lengths, axis=1)[:, at]
        starts = ends - lengths[:, at]
        cells = cut(self.rows, starts, ends)
        valid = self.valid[:, at - len(self.layout.variable)]
        return unpack(name, self.layout.variable[at].polars, cells, valid)

    def _fixed(self, names: Sequence[str], number: int) -> dict[str, pl.Series]:
        """Give columns of one block; where every value is there, all of them are made at once."""
        block = self.layout.blocks[number]
        if block.width is not None or not (self.full and self.complete):
            group = self.group(number)
            return {one: restore(Column(name=one, dtype=block.dtype), group) for one in names}
        values, _ = self.values(number)
        own = [self.layout.places[name][1] for name in names]
        whole = pl.Series("", values[:, own].T.reshape(-1))
        dtype = parse_dtype(block.dtype)
        whole, rows = whole if whole.dtype == dtype else whole.cast(dtype), len(self.rows)
        return {one: whole.slice(at * rows, rows).alias(one) for at, one in enumerate(names)}


def unbiased(stored: NDArray[np.uint64]) -> Times:
    """Give times as they are, of such as they are stored: so that their bytes compare."""
    times = stored.astype(np.uint64)
    times ^= SIGN
    return times.view(np.int64)
