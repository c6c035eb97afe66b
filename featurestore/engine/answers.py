"""What window states answer at a moment: every window asked, of every entity, at once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, complete, exact, variances
from featurestore.engine.fold import folded
from featurestore.engine.parts import Columns, Floats, Parts, bare_of, joined
from featurestore.engine.questions import Answered, Questions, Way
from featurestore.engine.spans import search
from featurestore.model.tiles import Integers, States
from featurestore.model.windows import tail

Bools = NDArray[np.bool_]
_FEW = 1_000
"""Tiles that are sooner folded once for each window than first for each stretch between tails."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Answers of one dtype: a row per feature, in it a value per entity and whether it is there.

    A null value is zero. Booleans are as they are, dates days, datetimes UTC microseconds, NaN of
    one kind.
    """

    dtype: str
    names: tuple[str, ...]
    values: NDArray[Any]
    valid: Bools


def answers(questions: Questions, states: States, at: int) -> tuple[Block, ...]:
    """Give window features of every entity at a moment, UTC microseconds.

    The moment is not before the newest known-at of any of the states. An entity without a state
    gets 0 for counts and sums, null for the rest.
    """
    tails = np.array([tail(at, window) for window in questions.windows], np.int64)
    columns = questions.columns
    cells = _Cells(columns, _covered(columns, states, tails), len(tails), len(states))
    valid = cells.whole.take(questions.counts, axis=0) > questions.least
    every = complete(valid)
    return tuple(_answered(cells, asked, valid[asked.rows], every) for asked in questions.blocks)


def _covered(columns: Columns, states: States, tails: Integers) -> Parts:
    """Fold what each window covers of each entity: by window, then by entity."""
    bare = joined(states.bare, bare_of(columns.plan, states.events))
    found, moments = columns.parts(states.tiles, bare), np.ascontiguousarray(bare["event"])
    if len(states.tiles):
        moments = np.concatenate([states.tiles["start"], moments])
    few = len(moments) <= _FEW
    if few and len(states) == 1:
        return folded(columns, *_rests(found, moments, tails))
    # Runs of what is in order of time: the tiles of each entity, the bare events, the whole ones.
    runs = (states.tile_counts, states.bare_counts, states.event_counts)
    fences = np.zeros(len(runs) * len(states) + 1, np.int64)
    np.cumsum(np.concatenate(runs), out=fences[1:])
    firsts = np.broadcast_to(fences[:-1], (len(tails), len(fences) - 1))
    begins = search(moments, firsts, fences[1:], tails[:, None], through=False)
    ends = fences[1:]
    if not few:
        found, begins, ends = _pieces(columns, found, tails, begins, fences)
    # Nothing is added to every window, so that none is empty.
    starts = np.full((len(tails), len(states), len(runs) + 1), found.whole.shape[1] - 1)
    sizes = np.ones(starts.shape, np.int64)
    starts[..., :-1] = begins.reshape(len(tails), len(runs), -1).swapaxes(1, 2)
    sizes[..., :-1] = (ends - begins).reshape(len(tails), len(runs), -1).swapaxes(1, 2)
    flat = sizes.reshape(-1)
    after = np.cumsum(flat)
    before = after - flat
    places = np.repeat(starts.reshape(-1) - before, flat) + np.arange(after[-1])
    return folded(columns, found.taken(places), before[:: len(runs) + 1])


def _rests(found: Parts, moments: Integers, tails: Integers) -> tuple[Parts, Integers]:
    """Give what windows cover of one entity, side by side, and where each begins.

    What is kept of it is in order of time, so that a window covers all from some on.
    """
    end = len(moments) + 1
    begins = moments.searchsorted(tails)
    if len(tails) == 1:
        return found.since(int(begins[0])), np.zeros(1, np.int64)
    sizes = end - begins
    places = np.concatenate([np.arange(begin, end) for begin in begins.tolist()])
    return found.taken(places), np.cumsum(sizes) - sizes


def _pieces(
    columns: Columns, found: Parts, tails: Integers, begins: Integers, fences: Integers
) -> tuple[Parts, Integers, Integers]:
    """Fold what lies between the same tails; gives where windows begin and runs end in that."""
    order = np.argsort(tails)
    cuts = np.concatenate([fences[None, :-1], begins[order]]).T.reshape(-1)
    cuts = np.append(cuts, fences[-1])
    there = np.append(cuts[1:] > cuts[:-1], [True])
    at = np.cumsum(there) - there
    moved = np.empty_like(begins)
    moved[order] = at[:-1].reshape(-1, len(tails) + 1).T[1:]
    return folded(columns, found, cuts[there]), moved, at[len(tails) + 1 :: len(tails) + 1]


class _Cells:
    """What windows are made of: a row for each window of each column, in it one of each entity."""

    def __init__(self, columns: Columns, parts: Parts, windows: int, entities: int) -> None:
        def rows(found: NDArray[Any]) -> NDArray[Any]:
            return found.reshape(len(found) * windows, entities)

        self._columns = columns
        self._counts, self._sums = len(columns.inputs) * windows, len(columns.sums) * windows
        self.whole: Integers = rows(parts.whole)
        self._exact = Exact(rows(parts.high), rows(parts.low))
        self._picks = [rows(one) for one in parts.picks]

    @cached_property
    def _numbers(self) -> Exact:
        """Sums as exact numbers; those that are int64 come last, where they are needed as such."""
        sums = self._exact[: self._sums]
        if set(self._columns.ints).isdisjoint(self._columns.squares):
            return sums
        ints = exact(self.whole[self._counts :])
        return Exact(np.concatenate([sums.high, ints.high]), np.concatenate([sums.low, ints.low]))

    @cached_property
    def _floats(self) -> Floats:
        """Sums as float64; those that are int64 come last."""
        sums, ints = self._exact[: self._sums].floats(), self.whole[self._counts :]
        return np.concatenate([sums, ints]) if len(ints) else sums

    def values(self, way: Way) -> tuple[NDArray[Any], Bools | None]:
        """Give the values of some features, of any kind where they have none.

        Beside them what there is, where that is not for the number of events to say.
        """
        match way.how:
            case "whole":
                return self.whole.take(way.at, axis=0), None
            case "floats":
                return self._floats.take(way.at, axis=0), None
            case "mean":
                counts = np.maximum(self.whole.take(way.counts, axis=0), 1)
                return self._floats.take(way.at, axis=0) / counts, None
            case "integers":
                return self._numbers.rows(way.at).integers()
            case "var" | "std":
                counts, squares = self.whole.take(way.counts, axis=0), self._exact.rows(way.squares)
                spread = variances(counts, self._numbers.rows(way.at), squares)
                return np.sqrt(spread) if way.how == "std" else spread, None
            case int(group):
                return self._picks[group].take(way.at, axis=0), None


def _answered(cells: _Cells, asked: Answered, valid: Bools, every: bool) -> Block:
    values = np.empty(valid.shape, asked.stored)
    for way in asked.ways:
        found, there = cells.values(way)
        if there is not None:
            valid[way.rows] = there
        values[way.rows] = found if every else np.where(valid[way.rows], found, 0)
    return Block(
        dtype=asked.dtype,
        names=asked.names,
        values=values.view(np.bool_) if asked.dtype == "bool" else values,
        valid=valid,
    )
