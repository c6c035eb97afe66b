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
from featurestore.model.tiles import Integers, Part, Pick, Plan, Records, stored

Floats = NDArray[np.float64]
Index = slice | Integers
"""Rows of an array: as a slice they are read without a copy."""

_WIDE = frozenset({"int64", "uint64"})
"""The dtypes of numbers that one float64 does not hold."""
_ALONE = _WIDE | {"datetime"}
"""The dtypes that are picked as they are; others are picked together, as float64 holds them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Columns of tiles: a row per column, and in it a number per tile.

    `whole` are how many events of each input count, then the sums that are int64. `high` and `low`
    are the sums that are exact pairs of float64, then those of squares. `picks` go by group; where
    no event counts, the least or greatest is what changes no other.
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

    def since(self, begin: int) -> "Parts":
        """Give the tiles from a place on, without a copy."""
        return Parts(
            whole=self.whole[:, begin:],
            high=self.high[:, begin:],
            low=self.low[:, begin:],
            picks=tuple(one[:, begin:] for one in self.picks),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Picks of one part and NumPy dtype, which are folded together: a row for each of these inputs.

    `counts` are the rows of how many of their events count; `nothing` stands where none does.
    """

    part: Part
    dtype: str
    inputs: tuple[int, ...]
    counts: Index
    nothing: np.generic


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Which columns of a plan's tiles are wanted: of which inputs, by their place in the plan.

    `inputs` are those whose events are counted, and hold all the others. `groups` are the picks as
    they are folded, `rows` the number of the group of each pick, and its rows there.
    """

    plan: Plan
    inputs: tuple[int, ...]
    ints: tuple[int, ...]
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    picks: tuple[Pick, ...]
    groups: tuple[Group, ...] = field(init=False)
    rows: tuple[tuple[int, slice], ...] = field(init=False)
    _tile: "_Tile" = field(init=False)
    _bare: "_Bare" = field(init=False)

    def __post_init__(self) -> None:
        """Group the picks, and find the columns in the fields of tiles and of bare events."""
        of: dict[tuple[Part, str], tuple[int, ...]] = {}
        rows = []
        for pick in self.picks:
            kind = (pick.part, pick.dtype if pick.dtype in _ALONE else "float64")
            before = of.get(kind, ())
            of[kind] = before + pick.inputs
            rows.append((list(of).index(kind), slice(len(before), len(of[kind]))))
        groups = tuple(_group(self.inputs, *kind, inputs) for kind, inputs in of.items())
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "rows", tuple(rows))
        object.__setattr__(self, "_tile", _tile(self))
        object.__setattr__(self, "_bare", _bare(self))

    def parts(self, tiles: Records, bare: Records) -> Parts:
        """Give the columns of tiles, then of bare events, each as a tile of its own, then nothing.

        The last one is a tile in which nothing happens.
        """
        some, every = len(tiles), len(tiles) + len(bare)
        exact_ones = (len(self.sums) + len(self.squares), every + 1)
        found = Parts(
            whole=np.empty((len(self.inputs) + len(self.ints), every + 1), np.int64),
            high=np.empty(exact_ones),
            low=np.zeros(exact_ones),
            picks=tuple(np.empty((len(one.inputs), every + 1), one.dtype) for one in self.groups),
        )
        if some:
            self._fill(found, slice(some), tiles)
        if len(bare):
            self._lift(found, slice(some, every), bare)
        found.whole[:, every] = 0
        found.high[:, every] = 0
        for group, column in zip(self.groups, found.picks, strict=True):
            column[:, every] = group.nothing
        return found

    def records(self, start: Integers, parts: Parts) -> Records:
        """Give tiles of the first parts, which start at these moments; the columns must be all."""
        tiles, first = np.zeros(len(start), self.plan.tile), slice(len(start))
        counts = parts.whole[: len(self.inputs), first]
        tiles["start"] = start
        tiles["n"] = counts.T
        tiles["ints"] = parts.whole[len(self.inputs) :, first].T
        tiles["high"], tiles["low"] = parts.high[:, first].T, parts.low[:, first].T
        for pick, (group, rows) in zip(self.picks, self.rows, strict=True):
            there = counts[list(pick.inputs)] > 0
            tiles[pick.name] = np.where(there, parts.picks[group][rows, first], 0).T
        return tiles

    def _fill(self, found: Parts, here: slice, tiles: Records) -> None:
        """Fill in tiles."""
        counts, at = len(self.inputs), self._tile
        found.whole[:counts, here] = _rows(tiles["n"].T, at.counts)
        if self.ints:
            found.whole[counts:, here] = _rows(tiles["ints"].T, at.ints)
        if len(found.high):
            found.high[:, here] = _rows(tiles["high"].T, at.exact)
            found.low[:, here] = _rows(tiles["low"].T, at.exact)
        for pick, (number, rows), places in zip(self.picks, self.rows, at.picks, strict=True):
            found.picks[number][rows, here] = _rows(tiles[pick.name].T, places)
        self._clear(found, here)

    def _lift(self, found: Parts, here: slice, events: Records) -> None:
        """Fill in bare events, each as a tile of its own."""
        counts, at, width = len(self.inputs), self._bare, len(self.plan.columns)
        valid = np.unpackbits(events["valid"].T, axis=0, count=width, bitorder="little")
        found.whole[:counts, here] = _rows(valid, at.counts)
        values = np.empty((at.count, len(events)))
        for dtype, rows, places in at.fields:
            values[rows] = _rows(events[dtype].T, places)
        if not complete(np.isfinite(values)):
            values[np.isnan(values)] = np.nan
        if self.ints:
            found.whole[counts:, here] = _rows(values, at.ints)
        if len(found.high):
            self._add(found, here, values, events)
        for column, (name, places) in zip(found.picks, at.picks, strict=True):
            column[:, here] = _rows(events[name].T if name else values, places)
        if not complete(valid):
            self._clear(found, here)

    def _clear(self, found: Parts, here: slice) -> None:
        """Pick nothing, instead of the zeros that are stored, where no event counts."""
        for group, column in zip(self.groups, found.picks, strict=True):
            nothing = _rows(found.whole[:, here], group.counts) == 0
            np.copyto(column[:, here], group.nothing, where=nothing)

    def _add(self, found: Parts, here: slice, values: Floats, events: Records) -> None:
        """Fill in what is summed of bare events: as exact numbers, those that are squared last."""
        at, sums = self._bare, len(self.sums)
        found.high[:sums, here] = _rows(values, at.sums)
        low = np.zeros(values.shape if at.wide else (len(values), 1))
        for row, dtype, place in at.wide:
            low[row] = exact(events[dtype][:, place]).low
        if at.wide:
            found.low[:sums, here] = _rows(low, at.sums)
        if self.squares:
            above = squared(Exact(_rows(values, at.squares), _rows(low, at.squares)))
            found.high[sums:, here], found.low[sums:, here] = above.high, above.low


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tile:
    """Where columns are in the fields of a tile."""

    counts: Index
    ints: Index
    exact: Index
    picks: tuple[Index, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bare:
    """Where columns are in the fields of a bare event, most of which are first read as float64.

    Of `count` rows of them `fields` says which are in the field of a dtype, and where. `ints`,
    `sums` and `squares` are rows of them; so are `picks` (of each group), or of a field that they
    name. `wide` are rows that float64 does not hold: their fields, and the places there.
    """

    count: int
    fields: tuple[tuple[str, slice, Index], ...]
    counts: Index
    ints: Index
    sums: Index
    squares: Index
    wide: tuple[tuple[int, str, int], ...]
    picks: tuple[tuple[str, Index], ...]


def _tile(columns: Columns) -> _Tile:
    plan, squares_at = columns.plan, len(columns.plan.sums)
    exact_at = [plan.sums.index(one) for one in columns.sums]
    exact_at += [squares_at + plan.squares.index(one) for one in columns.squares]
    whole = {one.name: one.inputs for one in plan.picks}
    return _Tile(
        counts=_index(columns.inputs),
        ints=_index([plan.ints.index(one) for one in columns.ints]),
        exact=_index(exact_at),
        picks=tuple(_index([whole[o.name].index(i) for i in o.inputs]) for o in columns.picks),
    )


def _bare(columns: Columns) -> _Bare:
    plan, floats = columns.plan, {*columns.ints, *columns.sums, *columns.squares}
    floats.update(*(one.inputs for one in columns.picks if one.dtype not in _ALONE))
    read: list[int] = []
    fields, wide = [], []
    for dtype, inputs in plan.values.items():
        places = [place for place, one in enumerate(inputs) if one in floats]
        rows = slice(len(read), len(read) + len(places))
        read += [inputs[place] for place in places]
        if places:
            fields.append((dtype, rows, _index(places)))
        if dtype in _WIDE:
            wide += [(rows.start + at, dtype, place) for at, place in enumerate(places)]
    picks = []
    for one in columns.groups:
        name = plan.columns[one.inputs[0]].dtype
        name = name if name in _ALONE else ""
        within = plan.values[name] if name else read
        picks.append((name, _index([within.index(i) for i in one.inputs])))
    return _Bare(
        count=len(read),
        fields=tuple(fields),
        counts=_index(columns.inputs),
        ints=_index([read.index(one) for one in columns.ints]),
        sums=_index([read.index(one) for one in columns.sums]),
        squares=_index([read.index(one) for one in columns.squares]),
        wide=tuple(wide),
        picks=tuple(picks),
    )


def _group(counted: Sequence[int], part: Part, dtype: str, inputs: tuple[int, ...]) -> Group:
    held = np.dtype(stored(dtype))
    nothing: float = np.nan
    if held.kind != "f":
        nothing = np.iinfo(held).max if part == "min" else np.iinfo(held).min
    return Group(
        part=part,
        dtype=held.str,
        inputs=inputs,
        counts=_index([counted.index(one) for one in inputs]),
        nothing=held.type(nothing),
    )


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
    found: Records = events.getfield(plan.bare, plan.event.itemsize - plan.bare.itemsize)
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


def _index(places: Sequence[int]) -> Index:
    first = places[0] if places else 0
    run = range(first, first + len(places))
    return slice(run.start, run.stop) if list(places) == list(run) else np.array(places)


def _rows(values: NDArray[Any], places: Index) -> NDArray[Any]:
    # A third of the time that indexing takes.
    return values[places] if isinstance(places, slice) else values.take(places, axis=0)
