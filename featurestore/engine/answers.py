"""What window states answer at a moment: every window asked, of every entity, at once."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, exact, variances
from featurestore.engine.fold import folded, joined, lifted, taken
from featurestore.model.documents import Feature, Function, Window
from featurestore.model.schema import INTEGERS, Column
from featurestore.model.tiles import Integers, Plan, Records, States
from featurestore.model.windows import tail

Bools = NDArray[np.bool_]
_FEW = 400
"""Tiles that are sooner folded once for each window than first for each stretch between tails."""
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
    tails = sorted(set(spans.values()))
    found = _Folded(plan, _covered(plan, states, np.array(tails, np.int64)))
    numbers = {span: tails.index(moment) for span, moment in spans.items()}
    return [
        found.answer(window.function, numbers[window.length, window.every], plan.places[one.name])
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
    """Fold what windows with these tails, ascending, cover; shape (entities, tails)."""
    width = len(tails)
    pieces, piece = _pieces(plan, states.tiles, states.tile_counts, tails)
    if len(states.events):
        events = lifted(plan, states.events)
        last, of_last = _pieces(plan, events, states.event_counts, tails)
        pieces, piece = joined(pieces, last), np.concatenate([piece, of_last])
    # A piece is part of the windows whose tails it does not precede.
    owner, times = np.divmod(piece, width + 1)
    starts = np.cumsum(times) - times
    window = np.repeat(owner * width - starts, times) + np.arange(times.sum())
    order = np.argsort(window, kind="stable")
    window, which = window[order], np.repeat(np.arange(len(piece)), times)[order]
    firsts = _changes(window)
    # Beside what is found lies one tile of nothing, for all windows that cover nothing.
    cells = joined(folded(plan, taken(pieces, which), firsts), np.zeros(1, plan.tile))
    places = np.full(len(states) * width, len(firsts))
    places[window[firsts]] = np.arange(len(firsts))
    return taken(cells, places).reshape(len(states), width)


def _pieces(
    plan: Plan, tiles: Records, counts: Integers, tails: Integers
) -> tuple[Records, Integers]:
    """Fold tiles that lie between the same tails; a few are left as they are.

    Pieces are numbered (tails + 1) x entity + tails that they do not precede.
    """
    numbers = np.arange(0, len(counts) * (len(tails) + 1), len(tails) + 1)
    piece = np.repeat(numbers, counts) + np.searchsorted(tails, tiles["start"], side="right")
    if len(piece) <= _FEW:
        return tiles, piece
    firsts = _changes(piece)
    return folded(plan, tiles, firsts), piece[firsts]


def _changes(numbers: Integers) -> Integers:
    """Give where each run of equal numbers begins."""
    new = np.empty(len(numbers), np.bool_)
    new[:1] = True
    np.not_equal(numbers[1:], numbers[:-1], out=new[1:])
    return np.flatnonzero(new)


class _Folded:
    """What features are made of, by kind; shapes are (entities, windows, inputs of the kind)."""

    def __init__(self, plan: Plan, cells: Records) -> None:
        self._plan = plan
        self._cells = cells
        self._counts = cells["n"].astype(np.int64)
        self._there = self._counts > 0
        self._always = np.ones(len(cells), np.bool_)
        sums = len(plan.sums)
        high, low = np.ascontiguousarray(cells["high"]), np.ascontiguousarray(cells["low"])
        self._totals = Exact(high[..., :sums], low[..., :sums])
        self._squares = Exact(high[..., sums:], low[..., sums:])
        self._made: dict[Function, NDArray[np.float64]] = {}

    def answer(self, function: Function, number: int, place: int) -> Answer:
        """Give what a function is of one window and input."""
        plan, there = self._plan, self._there[:, number, place]
        match function:
            case "count":
                return self._counts[:, number, place], self._always
            case "sum":
                return self._sum(number, place)
            case "mean":
                at = (plan.ints + plan.sums).index(place)
                return self._of("mean", self._means)[:, number, at], there
            case "var" | "std":
                found = self._of("var", self._spreads)
                if function == "std":
                    found = self._of("std", lambda: np.sqrt(found))
                enough = self._counts[:, number, place] > 1
                return found[:, number, plan.squares.index(place)], enough
        pick = next(p for p in plan.picks if p.part == function and place in p.inputs)
        picked = self._cells[pick.name][:, number, pick.inputs.index(place)]
        return picked.astype(np.bool_) if pick.dtype == "bool" else picked, there

    def _of(
        self, function: Function, make: Callable[[], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        if function not in self._made:
            self._made[function] = make()
        return self._made[function]

    def _sum(self, number: int, place: int) -> Answer:
        plan = self._plan
        if place in plan.ints:
            return self._cells["ints"][:, number, plan.ints.index(place)], self._always
        at = plan.sums.index(place)
        if plan.columns[place].dtype in INTEGERS:
            totals = self._totals
            return Exact(totals.high[:, number, at], totals.low[:, number, at]).integers()
        return self._of("sum", self._totals.floats)[:, number, at], self._always

    def _means(self) -> NDArray[np.float64]:
        plan, floats = self._plan, self._of("sum", self._totals.floats)
        if plan.ints:
            floats = np.concatenate([self._cells["ints"].astype(np.float64), floats], axis=-1)
        return floats / np.maximum(self._counts[..., plan.ints + plan.sums], 1)

    def _spreads(self) -> NDArray[np.float64]:
        plan, sums = self._plan, self._totals
        if plan.ints:
            ints = exact(self._cells["ints"].reshape(-1))
            shape = self._cells["ints"].shape
            high, low = ints.high.reshape(shape), ints.low.reshape(shape)
            sums = Exact(
                np.concatenate([high, sums.high], axis=-1), np.concatenate([low, sums.low], axis=-1)
            )
        at = [(plan.ints + plan.sums).index(place) for place in plan.squares]
        counts = self._counts[..., plan.squares]
        found = variances(counts, Exact(sums.high[..., at], sums.low[..., at]), self._squares)
        return np.where(counts > 1, found, 0.0)


def _window(feature: Feature) -> Window:
    if feature.window is None:
        raise ValueError(f"{feature.name} is no window feature")
    return feature.window
