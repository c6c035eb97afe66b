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
"""What answers are read from: a kind of sum (counts are whole ones), or the group of a pick."""

_ALWAYS, _ONE, _TWO = -1, 0, 1
"""More events than that must count for a function to give something."""
_LEAST: Mapping[Function, int] = {"count": _ALWAYS, "sum": _ALWAYS, "var": _TWO, "std": _TWO}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """Answers of one block that are made alike: which rows of it, and which cells each is made of.

    Cells are rows of what is read, one for each window of a column. `counts` are those of how many
    events count, `at` of what answers are read from, `squares` of the sums of squares.
    """

    how: How
    rows: slice
    counts: Integers
    at: Integers
    squares: Integers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """The features of one dtype, and which of all that are asked for they are."""

    dtype: str
    stored: np.dtype[Any]
    names: tuple[str, ...]
    rows: slice
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Questions:
    """Window features that are asked for: kinds of windows, columns of tiles, and blocks by dtype.

    Of all features, block after block, `counts` are the cells of how many events count, and each
    gives something where more than `least` do.
    """

    windows: tuple[Window, ...]
    columns: Columns
    blocks: tuple[Answered, ...]
    counts: Integers
    least: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A feature, how it is made, and of which cells."""

    name: str
    dtype: str
    how: How
    count: int
    at: int
    square: int
    least: int


def asking(plan: Plan, features: Sequence[Feature]) -> Questions:
    """Work out how window features are answered from states that are laid out by a plan."""
    pairs = [(one, window_of(one)) for one in features]
    windows = {(window.length, window.every): window for _, window in pairs}
    columns, spans = _columns(plan, pairs), list(windows)
    asked = [_asked(columns, spans, *pair) for pair in pairs]
    # Those of one dtype, and in it those that are made alike, stand side by side.
    dtypes, hows = list(dict.fromkeys(o.dtype for o in asked)), [o.how for o in asked]
    asked.sort(key=lambda one: (dtypes.index(one.dtype), hows.index(one.how)))
    return Questions(
        windows=tuple(windows.values()),
        columns=columns,
        blocks=tuple(_block(asked, dtype) for dtype in dtypes),
        counts=np.array([one.count for one in asked], np.int64),
        least=np.array([one.least for one in asked], np.int64)[:, None],
    )


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


def _asked(
    columns: Columns, spans: Sequence[tuple[int, int]], feature: Feature, window: Window
) -> _Asked:
    place, among = columns.plan.places[feature.name], spans.index((window.length, window.every))
    how, column = _how(columns, window.function, place)
    square = columns.squares.index(place) if how in ("var", "std") else 0
    return _Asked(
        name=feature.name,
        dtype=feature.dtype,
        how=how,
        count=columns.inputs.index(place) * len(spans) + among,
        at=column * len(spans) + among,
        square=(len(columns.sums) + square) * len(spans) + among,
        least=_LEAST.get(window.function, _ONE),
    )


def _block(asked: Sequence[_Asked], dtype: str) -> Answered:
    """Lay out the features of one dtype."""
    rows = [row for row, one in enumerate(asked) if one.dtype == dtype]
    block = [asked[row] for row in rows]
    return Answered(
        dtype=dtype,
        stored=np.dtype(stored(dtype)),
        names=tuple(one.name for one in block),
        rows=slice(rows[0], rows[-1] + 1),
        ways=tuple(_way(block, how) for how in dict.fromkeys(one.how for one in block)),
    )


def _way(block: Sequence[_Asked], how: How) -> Way:
    rows = [row for row, one in enumerate(block) if one.how == how]
    alike = [block[row] for row in rows]
    return Way(
        how=how,
        rows=slice(rows[0], rows[-1] + 1),
        counts=np.array([one.count for one in alike], np.int64),
        at=np.array([one.at for one in alike], np.int64),
        squares=np.array([one.square for one in alike], np.int64),
    )


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
            group, rows = columns.rows[number := picks.index(True)]
            return group, rows.start + columns.picks[number].inputs.index(place)
