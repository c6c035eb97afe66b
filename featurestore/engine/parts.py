"""Tiles column by column, for folding: those of their columns that somebody asks for.

A record holds all that is known of a tile, and folding runs along columns. Where many columns of
many tiles are asked for, taking them out of the records is what it takes longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, complete, exact, squared
from featurestore.model.tiles import Integers, Pick, Plan, Records

Floats = NDArray[np.float64]
Index = slice | list[int]
"""Places in a field: as a slice they are read without a copy."""

_WIDE = frozenset({"int64", "uint64"})
"""The dtypes of numbers that one float64 does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Columns of tiles: a row per column, and in it a number per tile.

    `whole` are how many events of each input count, then the sums that are int64. `high` and `low`
    are the sums that are exact pairs of float64, then those of squares.
    """

    whole: Integers
    high: Floats
    low: Floats
    picks: tuple[NDArray[Any], ...]

    def taken(self, places: Integers) -> "Parts":
        """Give the tiles at some places."""
        return Parts(
            whole=self.whole.take(places, axis=1),
            high=self.high.take(places, axis=1),
            low=self.low.take(places, axis=1),
            picks=tuple(one.take(places, axis=1) for one in self.picks),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Which columns of a plan's tiles are wanted: of which inputs, by their place in the plan.

    `inputs` are those whose events are counted, and hold all the others.
    """

    plan: Plan
    inputs: tuple[int, ...]
    ints: tuple[int, ...]
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    picks: tuple[Pick, ...]
    summed: tuple[int, ...] = field(init=False)
    _counts_at: Index = field(init=False)
    _ints_at: Index = field(init=False)
    _exact_at: Index = field(init=False)
    _picks_at: tuple[Index, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find the columns in the fields of a tile."""
        plan, squares_at = self.plan, len(self.plan.sums)
        exact_at = [plan.sums.index(one) for one in self.sums]
        exact_at += [squares_at + plan.squares.index(one) for one in self.squares]
        whole = {one.name: one.inputs for one in plan.picks}
        picks_at = ([whole[one.name].index(i) for i in one.inputs] for one in self.picks)
        summed = tuple(dict.fromkeys((*self.sums, *self.squares)))
        object.__setattr__(self, "summed", summed)
        object.__setattr__(self, "_counts_at", _index(self.inputs))
        object.__setattr__(self, "_ints_at", _index([plan.ints.index(one) for one in self.ints]))
        object.__setattr__(self, "_exact_at", _index(exact_at))
        object.__setattr__(self, "_picks_at", tuple(map(_index, picks_at)))

    def parts(self, tiles: Records, bare: Records) -> Parts:
        """Give the columns of tiles, then of bare events, each as a tile of its own, then nothing.

        The last one is a tile in which nothing happens.
        """
        some, every, counts = len(tiles), len(tiles) + len(bare), len(self.inputs)
        exact_ones = (len(self.sums) + len(self.squares), every + 1)
        found = Parts(
            whole=np.zeros((counts + len(self.ints), every + 1), np.int64),
            high=np.zeros(exact_ones),
            low=np.zeros(exact_ones),
            picks=tuple(
                np.zeros((len(one.inputs), every + 1), self.plan.tile[one.name].base)
                for one in self.picks
            ),
        )
        if some:
            self._fill(found, slice(some), tiles)
        if len(bare):
            self._lift(found, slice(some, every), bare)
        return found

    def records(self, start: Integers, parts: Parts) -> Records:
        """Give tiles of the first parts, which start at these moments; the columns must be all."""
        tiles, count = np.zeros(len(start), self.plan.tile), len(start)
        tiles["start"] = start
        tiles["n"] = parts.whole[: len(self.inputs), :count].T
        tiles["ints"] = parts.whole[len(self.inputs) :, :count].T
        tiles["high"], tiles["low"] = parts.high[:, :count].T, parts.low[:, :count].T
        for pick, column in zip(self.picks, parts.picks, strict=True):
            tiles[pick.name] = column[:, :count].T
        return tiles

    def _fill(self, found: Parts, here: slice, tiles: Records) -> None:
        """Fill in tiles."""
        counts = len(self.inputs)
        found.whole[:counts, here] = tiles["n"].T[self._counts_at]
        if self.ints:
            found.whole[counts:, here] = tiles["ints"].T[self._ints_at]
        if self.summed:
            found.high[:, here] = tiles["high"].T[self._exact_at]
            found.low[:, here] = tiles["low"].T[self._exact_at]
        for pick, column, at in zip(self.picks, found.picks, self._picks_at, strict=True):
            column[:, here] = tiles[pick.name].T[at]

    def _lift(self, found: Parts, here: slice, events: Records) -> None:
        """Fill in bare events, each as a tile of its own."""
        plan, counts = self.plan, len(self.inputs)
        valid = np.unpackbits(events["valid"], axis=1, count=len(plan.columns), bitorder="little")
        found.whole[:counts, here] = valid.T[self._counts_at]
        for row, place in enumerate(self.ints):
            found.whole[counts + row, here] = _input(plan, events, place)
        if self.summed:
            found.high[:, here], found.low[:, here] = self._numbers(events)
        for pick, column in zip(self.picks, found.picks, strict=True):
            for row, place in enumerate(pick.inputs):
                column[row, here] = _input(plan, events, place)
            if column.dtype.kind == "f":
                values = column[:, here]
                values[np.isnan(values)] = np.nan
                if pick.part in ("min", "max"):
                    values += 0

    def _numbers(self, events: Records) -> tuple[Floats, Floats]:
        """Give what is summed of events as exact numbers, those that are squared last."""
        high = np.empty((len(self.summed), len(events)))
        low = np.zeros(high.shape)
        for row, place in enumerate(self.summed):
            values = _input(self.plan, events, place)
            high[row] = values
            if self.plan.columns[place].dtype in _WIDE:
                low[row] = exact(values).low
        if self.squares:
            at = [self.summed.index(place) for place in self.squares]
            above = squared(Exact(high[at], low[at]))
            count = len(self.sums)
            high = np.concatenate([high[:count], above.high])
            low = np.concatenate([low[:count], above.low])
        if complete(np.isfinite(high)):
            return high + 0.0, low + 0.0
        low = np.where(np.isfinite(high), low + 0.0, 0.0)
        return np.where(np.isnan(high), np.nan, high + 0.0), low


@lru_cache(maxsize=1024)
def every_column(plan: Plan) -> Columns:
    """Give all the columns of a plan's tiles."""
    return Columns(
        plan=plan,
        inputs=tuple(range(len(plan.columns))),
        ints=plan.ints,
        sums=plan.sums,
        squares=plan.squares,
        picks=plan.picks,
    )


def bare_of(plan: Plan, events: Records) -> Records:
    """Give the bare events that whole ones end in."""
    cells = events.view(np.uint8).reshape(len(events), plan.event.itemsize)
    ends = np.ascontiguousarray(cells[:, plan.event.itemsize - plan.bare.itemsize :])
    found: Records = ends.reshape(-1).view(plan.bare)
    return found


def taken(records: Records, places: NDArray[Any]) -> Records:
    """Give the records at some places, or where a mask says so."""
    # As plain bytes, a seventh of the time that NumPy takes field by field.
    found: Records = _plain(records)[places].view(records.dtype)
    return found


def joined(one: Records, two: Records) -> Records:
    """Give records, and others of the same kind after them."""
    if not len(two):
        return one
    if not len(one):
        return two
    return np.concatenate([_plain(one), _plain(two)]).view(one.dtype)


def _plain(records: Records) -> Records:
    return records.view(f"V{records.dtype.itemsize}")


def _input(plan: Plan, events: Records, place: int) -> NDArray[Any]:
    dtype = plan.columns[place].dtype
    values: NDArray[Any] = events[dtype][:, plan.values[dtype].index(place)]
    return values


def _index(places: Sequence[int]) -> Index:
    first = places[0] if places else 0
    run = slice(first, first + len(places))
    return run if list(places) == list(range(run.start, run.stop)) else list(places)
