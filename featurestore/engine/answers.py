"""What window states answer at a moment: every window asked, of every entity, at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, exact, variances
from featurestore.engine.fold import folded, lifted
from featurestore.model.documents import Feature, Function, Window
from featurestore.model.schema import INTEGERS, Column
from featurestore.model.tiles import Integers, Part, Plan, Records, States
from featurestore.model.windows import tail

Bools = NDArray[np.bool_]
Answer = tuple[NDArray[np.generic], Bools]
"""One value per entity and whether it is there: a null one is zero.

Booleans are as they are, dates days, datetimes UTC microseconds, NaN of one kind.
"""


def values(plan: Plan, states: States, at: int, asked: Sequence[Feature]) -> list[Answer]:
    """Give window features of every entity at a moment, UTC microseconds.

    The moment is not before the newest known-at of any of the states. An entity without a state
    gets 0 for counts and sums, null for the rest.
    """
    windows = [_window(feature) for feature in asked]
    spans = {(one.length, one.every): tail(at, one) for one in windows}
    tails = np.array(sorted(set(spans.values())), np.int64)
    cells = _covered(plan, states, tails)
    found = _folded(plan, cells)
    numbers = {moment: number for number, moment in enumerate(tails.tolist())}
    return [
        found.answer(
            window.function, numbers[spans[window.length, window.every]], plan.places[one.name]
        )
        for one, window in zip(asked, windows, strict=True)
    ]


def series(feature: Feature, answer: Answer) -> pl.Series:
    """Give an answer as a column of the feature's name and dtype, null where there is no value."""
    found, valid = answer
    column = pl.Series(feature.name, found)
    exact = Column(name=feature.name, dtype=feature.dtype).polars
    typed = column if column.dtype == exact else column.cast(exact)
    return typed if valid.all() else typed.zip_with(pl.Series(valid), typed.clear(1))


def _covered(plan: Plan, states: States, tails: Integers) -> Records:
    """Fold what windows with these tails cover, in ascending order; shape (entities, tails)."""
    every, owner = _in_order(plan, states)
    span = np.searchsorted(tails, every["start"], side="right") - 1
    if len(span) and span.min() < 0:
        kept = span >= 0
        every, owner, span = every[kept], owner[kept], span[kept]
    width = len(tails)
    cells = np.zeros(len(states) * width, plan.tile)
    if not len(every):
        return cells.reshape(len(states), width)
    piece = owner * width + span
    firsts = np.append(0, np.flatnonzero(piece[1:] != piece[:-1]) + 1)
    pieces, piece = folded(plan, every, firsts), piece[firsts]
    if width > 1:
        # A piece is part of its own window and of all that reach back further.
        times = piece % width + 1
        which = np.repeat(np.arange(len(piece)), times)
        first = np.repeat(np.cumsum(times) - times, times)
        window = np.repeat(piece - piece % width, times) + np.arange(len(which)) - first
        order = np.argsort(window, kind="stable")
        window = window[order]
        firsts = np.append(0, np.flatnonzero(window[1:] != window[:-1]) + 1)
        pieces, piece = folded(plan, pieces[which[order]], firsts), window[firsts]
    cells[piece] = pieces
    return cells.reshape(len(states), width)


def _in_order(plan: Plan, states: States) -> tuple[Records, Integers]:
    """Give tiles, and events as tiles, by entity and time; and the entity of each."""
    alone = len(states) == 1
    both = np.concatenate([states.tiles, lifted(plan, states.events)])
    if alone:
        return both, np.zeros(len(both), np.int64)
    numbers = np.arange(len(states))
    owner = np.repeat(
        np.concatenate([numbers, numbers]),
        np.concatenate([states.tile_counts, states.event_counts]),
    )
    order = np.argsort(owner, kind="stable")
    return both[order], owner[order]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folded:
    """What each window covers of each entity, and what all features need that is made of sums.

    Arrays have shape (entities, windows, inputs, or those of `sums` or `squares`).
    """

    plan: Plan
    cells: Records
    counts: Integers
    totals: Exact
    floats: NDArray[np.float64]
    spreads: NDArray[np.float64]

    def answer(self, function: Function, number: int, place: int) -> Answer:
        """Give what a function is of one window and input."""
        count = self.counts[:, number, place]
        match function:
            case "count":
                return count, np.ones(len(count), np.bool_)
            case "sum":
                return self._sum(number, place)
            case "mean":
                return _divided(self._float(number, place), count), count > 0
            case "var" | "std":
                found = self.spreads[:, number, self.plan.squares.index(place)]
                enough = count > 1
                spread = np.where(enough, found, 0.0)
                return np.sqrt(spread) if function == "std" else spread, enough
        return self._picked(function, number, place), count > 0

    def _sum(self, number: int, place: int) -> Answer:
        plan, count = self.plan, len(self.cells)
        if place in plan.ints:
            whole = self.cells["ints"][:, number, plan.ints.index(place)]
            return whole, np.ones(count, np.bool_)
        at = plan.sums.index(place)
        if plan.columns[place].dtype in INTEGERS:
            return Exact(self.totals.high[:, number, at], self.totals.low[:, number, at]).integers()
        return self.floats[:, number, at], np.ones(count, np.bool_)

    def _float(self, number: int, place: int) -> NDArray[np.float64]:
        if place in self.plan.ints:
            whole = self.cells["ints"][:, number, self.plan.ints.index(place)]
            return whole.astype(np.float64)
        return self.floats[:, number, self.plan.sums.index(place)]

    def _picked(self, part: Part, number: int, place: int) -> NDArray[np.generic]:
        pick = next(p for p in self.plan.picks if p.part == part and place in p.inputs)
        found = self.cells[pick.name][:, number, pick.inputs.index(place)]
        if pick.dtype == "bool":
            return found.astype(np.bool_)
        return (
            np.where(np.isnan(found), found.dtype.type(np.nan), found)
            if (found.dtype.kind == "f")
            else found
        )


def _folded(plan: Plan, cells: Records) -> _Folded:
    counts = cells["n"].astype(np.int64)
    exact = Exact(np.ascontiguousarray(cells["high"]), np.ascontiguousarray(cells["low"]))
    sums = len(plan.sums)
    totals = Exact(exact.high[..., :sums], exact.low[..., :sums])
    squares = Exact(exact.high[..., sums:], exact.low[..., sums:])
    return _Folded(
        plan=plan,
        cells=cells,
        counts=counts,
        totals=totals,
        floats=totals.floats(),
        spreads=_spreads(plan, cells, counts, totals, squares),
    )


def _spreads(
    plan: Plan, cells: Records, counts: Integers, totals: Exact, squares: Exact
) -> NDArray[np.float64]:
    """Give the variances of the inputs whose squares are summed."""
    if not plan.squares:
        return squares.high
    high, low = np.empty_like(squares.high), np.empty_like(squares.high)
    for at, place in enumerate(plan.squares):
        if place in plan.ints:
            whole = cells["ints"][..., plan.ints.index(place)]
            number = exact(whole.reshape(-1))
            high[..., at] = number.high.reshape(whole.shape)
            low[..., at] = number.low.reshape(whole.shape)
        else:
            column = plan.sums.index(place)
            high[..., at], low[..., at] = totals.high[..., column], totals.low[..., column]
    return variances(counts[..., plan.squares], Exact(high, low), squares)


def _divided(sums: NDArray[np.float64], count: Integers) -> NDArray[np.float64]:
    return np.where(count > 0, sums / np.maximum(count, 1), 0.0)


def _window(feature: Feature) -> Window:
    if feature.window is None:
        raise ValueError(f"{feature.name} is no window feature")
    return feature.window
