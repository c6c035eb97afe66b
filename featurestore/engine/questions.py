"""What is asked of window states, worked out once for as many lookups as ask it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from featurestore.engine.parts import Columns
from featurestore.model.documents import Feature, Function, Window
from featurestore.model.schema import INTEGERS
from featurestore.model.tiles import Integers, Part, Plan, stored

How = Literal["whole", "integers", "floats", "mean", "var", "std"] | int
"""What answers are read from: a kind of sum (counts are whole ones), or the number of a pick."""

_ALWAYS, _ONE, _TWO = -1, 0, 1
"""More events than that must count for a function to give something."""
_LEAST: Mapping[Function, int] = {"count": _ALWAYS, "sum": _ALWAYS, "var": _TWO, "std": _TWO}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """Answers of one block that are made alike: the places of each in the block and in the cells.

    `columns` are those of what they are read from, `squares` those of sums of squares.
    """

    how: How
    rows: list[int]
    windows: list[int]
    inputs: list[int]
    columns: list[int]
    squares: list[int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """The features of one dtype; each gives something where more than `least` events count."""

    dtype: str
    stored: np.dtype[Any]
    names: tuple[str, ...]
    windows: list[int]
    inputs: list[int]
    least: Integers
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Questions:
    """Window features that are asked for: kinds of windows, columns of tiles, and blocks by dtype.

    Windows and inputs go by their places in `windows` and in `columns.inputs`.
    """

    windows: tuple[Window, ...]
    columns: Columns
    blocks: tuple[Answered, ...]


def asking(plan: Plan, features: Sequence[Feature]) -> Questions:
    """Work out how window features are answered from states that are laid out by a plan."""
    asked = [(one, window_of(one)) for one in features]
    windows = {(window.length, window.every): window for _, window in asked}
    columns = _columns(plan, asked)
    blocks = (
        _block(columns, list(windows), [pair for pair in asked if pair[0].dtype == dtype])
        for dtype in dict.fromkeys(feature.dtype for feature in features)
    )
    return Questions(windows=tuple(windows.values()), columns=columns, blocks=tuple(blocks))


def window_of(feature: Feature) -> Window:
    """Give a window feature's window."""
    if feature.window is None:
        raise ValueError(f"{feature.name} is no window feature")
    return feature.window


def _columns(plan: Plan, asked: Sequence[tuple[Feature, Window]]) -> Columns:
    of: dict[Function | Part, set[int]] = {}
    for feature, window in asked:
        of.setdefault(window.function, set()).add(plan.places[feature.name])

    def among(places: Sequence[int], *functions: Function | Part) -> tuple[int, ...]:
        wanted = set().union(*(of.get(function, ()) for function in functions))
        return tuple(place for place in places if place in wanted)

    picks = (replace(one, inputs=among(one.inputs, one.part)) for one in plan.picks)
    return Columns(
        plan=plan,
        inputs=tuple(sorted(set().union(*of.values()))),
        ints=among(plan.ints, "sum", "mean", "var", "std"),
        sums=among(plan.sums, "sum", "mean", "var", "std"),
        squares=among(plan.squares, "var", "std"),
        picks=tuple(one for one in picks if one.inputs),
    )


def _block(
    columns: Columns, spans: Sequence[tuple[int, int]], asked: Sequence[tuple[Feature, Window]]
) -> Answered:
    """Lay out the features of one dtype, and sort them by how they are made."""
    places = [columns.plan.places[feature.name] for feature, _ in asked]
    inputs = [columns.inputs.index(place) for place in places]
    windows = [spans.index((window.length, window.every)) for _, window in asked]
    ways: dict[How, list[tuple[int, int, int, int, int]]] = {}
    for row, ((_, window), place) in enumerate(zip(asked, places, strict=True)):
        how, column = _how(columns, window.function, place)
        square = columns.squares.index(place) if how in ("var", "std") else 0
        ways.setdefault(how, []).append((row, windows[row], inputs[row], column, square))
    least = [_LEAST.get(window.function, _ONE) for _, window in asked]
    return Answered(
        dtype=asked[0][0].dtype,
        stored=np.dtype(stored(asked[0][0].dtype)),
        names=tuple(feature.name for feature, _ in asked),
        windows=windows,
        inputs=inputs,
        least=np.array(least)[:, None],
        ways=tuple(_way(how, those) for how, those in ways.items()),
    )


def _way(how: How, those: Sequence[tuple[int, int, int, int, int]]) -> Way:
    rows, windows, inputs, columns, squares = map(list, zip(*those, strict=True))
    return Way(how=how, rows=rows, windows=windows, inputs=inputs, columns=columns, squares=squares)


def _how(columns: Columns, function: Function, place: int) -> tuple[How, int]:
    """Say what a function of an input is read from, and the column in it."""
    match function:
        case "count":
            return "whole", columns.inputs.index(place)
        case "sum" if place in columns.ints:
            return "whole", len(columns.inputs) + columns.ints.index(place)
        case "sum":
            whole = columns.plan.columns[place].dtype in INTEGERS
            return "integers" if whole else "floats", columns.sums.index(place)
        case "mean" | "var" | "std":
            return function, (columns.sums + columns.ints).index(place)
        case part:
            picks = [one.part == part and place in one.inputs for one in columns.picks]
            number = picks.index(True)
            return number, columns.picks[number].inputs.index(place)
