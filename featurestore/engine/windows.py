"""Values of window features for training: many (key, moment) questions over one part's events.

Which events count is found once for all features (`engine.spans`), what they give column by column
(`engine.ranges`): a column is read, aggregated for all windows and functions that want it, and let
go. Where several stretches answer one question their results are put together in any order: sums
are exact, and first and last are told by the place of their event.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, variances
from featurestore.engine.ranges import Array, Pick, counts, ends, extremes, square_sums, sums
from featurestore.engine.spans import NEVER, Events, Integers, Layer, layers
from featurestore.model.documents import Feature, Function, Window
from featurestore.model.schema import parse_dtype
from featurestore.model.windows import input_name, output_of

Read = Callable[[Sequence[str]], pl.DataFrame]
"""Gives input columns of all events, in their order."""

_BEGINNING = -(2**63)
_ADDED: frozenset[Function] = frozenset({"sum", "mean", "var", "std"})
_SQUARED: frozenset[Function] = frozenset({"var", "std"})
_PICKS: Mapping[Function, Pick] = MappingProxyType({"min": np.minimum, "max": np.maximum})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A feature called `name`, which a window makes of the column `input`."""

    window: Window
    input: str
    name: str


def asked_of(features: Iterable[Feature]) -> list[Asked]:
    """Give what is asked of window features."""
    return [
        Asked(window=one.window, input=input_name(one), name=one.name)
        for one in features
        if one.window is not None
    ]


def window_values(
    events: Events, key: Integers, at: Integers, asked: Sequence[Asked], read: Read
) -> list[pl.Series]:
    """Give the values of features for questions: a key's number (-1: no events) and a moment.

    One series for each feature, in `output_of` its input's dtype and as long as `key`; moments are
    UTC microseconds.
    """
    order = np.argsort(key)
    answers = _in_order(events, key.take(order), at.take(order), asked, read)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return [answer.gather(back) for answer in answers]


def _in_order(
    events: Events, key: Integers, at: Integers, asked: Sequence[Asked], read: Read
) -> list[pl.Series]:
    """Answer questions that go through the keys in order, and so through memory."""
    windows = list(dict.fromkeys(_stretch(one) for one in asked))
    found = list(layers(events, key, at, [_tails(at, *window) for window in windows]))
    values: dict[Asked, pl.Series] = {}
    for name in dict.fromkeys(one.input for one in asked):
        column = _input(read([name])[name])
        inputs = [column.take(layer.rows) for layer in found]
        work = _Work(whole=column, layers=found, inputs=inputs, height=len(key))
        mine = {one: windows.index(_stretch(one)) for one in asked if one.input == name}
        values.update(work.values(mine))
    return [values[one] for one in asked]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Input:
    """A column of events: plain values, 0 for a null, and which are not null (None: all)."""

    values: Array
    valid: NDArray[np.bool_] | None

    def take(self, rows: Integers | None) -> "_Input":
        if rows is None:
            return self
        valid = None if self.valid is None else self.valid.take(rows)
        return _Input(values=self.values.take(rows), valid=valid)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """What there is to do for one input, whole and by layer; `height` counts the questions.

    Windows go by their place; each method gives what all layers hold together, by window.
    """

    whole: _Input
    layers: Sequence[Layer]
    inputs: Sequence[_Input]
    height: int

    def values(self, asked: Mapping[Asked, int]) -> Iterator[tuple[Asked, pl.Series]]:
        """Give the values of some features, each of the window at a place."""

        def windows(*functions: Function) -> list[int]:
            return sorted({at for one, at in asked.items() if one.window.function in functions})

        count = self.counts(windows(*get_args(Function)), self.inputs)
        total = self.sums(windows(*_ADDED), square=False)
        squares = self.sums(windows(*_SQUARED), square=True)
        picked = {of: self.extremes(windows(of), of) for of in _PICKS}
        ended = {of: self.ends(windows(of), last=of == "last") for of in ("first", "last")}
        for one, at in asked.items():
            function, dtype = one.window.function, output_of(one.window.function, one.window.dtype)
            there = count[at] > 0
            found: Array
            match function:
                case "count":
                    found, there = count[at], np.ones(self.height, np.bool_)
                case "sum" if dtype == "int64":
                    found, there = total[at].integers()
                case "sum":
                    found, there = total[at].floats(), np.ones(self.height, np.bool_)
                case "mean":
                    found = total[at].floats() / np.maximum(count[at], 1)
                case "var" | "std":
                    found, there = variances(count[at], total[at], squares[at]), count[at] > 1
                    found = np.sqrt(found) if function == "std" else found
                case "min" | "max":
                    found = picked[function][at]
                case "first" | "last":
                    found = ended[function][at]
            yield one, _series(one.name, found, there, parse_dtype(dtype))

    def counts(self, windows: Sequence[int], inputs: Sequence[_Input]) -> dict[int, Integers]:
        """Count what is not null."""
        return self._of_all(windows, inputs, lambda one, of: counts(one.valid, of.spans), np.add)

    def sums(self, windows: Sequence[int], *, square: bool) -> dict[int, Exact]:
        """Add up the inputs or their squares."""
        add = square_sums if square else sums
        return self._of_all(
            windows, self.inputs, lambda one, of: add(one.values, of.spans), operator.add
        )

    def extremes(self, windows: Sequence[int], function: Function) -> dict[int, Array]:
        """Give the least or greatest; NaN only where all are, and 0.0 for -0.0."""
        if not windows:
            return {}
        pick, identity = _PICKS[function], _identity(self.whole.values.dtype, function)
        numbers = [_numbers(column) for column in self.inputs]

        def found(one: _Input, of: Layer) -> list[Array]:
            values = one.values if one.valid is None else np.where(one.valid, one.values, identity)
            return extremes(values, of.spans, pick, identity)

        best = self._of_all(windows, numbers, found, pick)
        if self.whole.values.dtype.kind != "f":
            return best
        count = self.counts(windows, numbers)
        return {at: np.where(count[at] > 0, best[at] + 0, best[at] * np.nan) for at in windows}

    def ends(self, windows: Sequence[int], *, last: bool) -> dict[int, Array]:
        """Give the first or last input that is not null."""
        none = -1 if last else NEVER

        def found(one: _Input, of: Layer) -> list[Integers]:
            places = ends(one.valid, of.spans, last=last)
            if of.rows is not None:
                places = [(of.rows.take(place, mode="clip"), some) for place, some in places]
            return [np.where(some, place, none) for place, some in places]

        rows = self._of_all(windows, self.inputs, found, np.maximum if last else np.minimum)
        values = self.whole.values if len(self.whole.values) else np.zeros(1)
        return {at: values.take(row, mode="clip") for at, row in rows.items()}

    def _of_all(
        self,
        windows: Sequence[int],
        inputs: Sequence[_Input],
        found: Callable[[_Input, Layer], Sequence[Any]],
        merge: Callable[[Any, Any], Any],
    ) -> dict[int, Any]:
        """Put together what is found in each layer; the first layer answers all questions."""
        whole: dict[int, Any] = {}
        for layer, column in zip(self.layers, inputs, strict=True):
            some = replace(layer, spans=[layer.spans[at] for at in windows])
            for at, span, part in zip(windows, some.spans, found(column, some), strict=True):
                if span.asked is None:
                    whole[at] = part
                else:
                    whole[at][span.asked] = merge(whole[at][span.asked], part)
        return whole


def _stretch(one: Asked) -> tuple[int, int]:
    return one.window.length, one.window.every


def _tails(at: Integers, length: int, every: int) -> Integers:
    """Give the first moment that a window covers, as `model.windows.tail` does for one."""
    least = _BEGINNING + length + every
    tails = (np.maximum(at, least) - length) // every * every
    return np.where(at < least, _BEGINNING, tails)


def _input(column: pl.Series) -> _Input:
    plain = column.to_physical()
    if not plain.null_count():
        return _Input(values=plain.to_numpy(), valid=None)
    filled = plain.fill_null(value=False) if plain.dtype == pl.Boolean else plain.fill_null(0)
    return _Input(values=filled.to_numpy(), valid=plain.is_not_null().to_numpy())


def _numbers(column: _Input) -> _Input:
    """Count NaN as null."""
    if column.values.dtype.kind != "f" or not (odd := np.isnan(column.values)).any():
        return column
    return _Input(values=column.values, valid=~odd if column.valid is None else column.valid & ~odd)


def _identity(dtype: np.dtype[Any], function: Function) -> Any:
    """Give what the least (or greatest) of anything and it is that thing."""
    if dtype.kind == "b":
        return np.bool_(function == "min")
    if dtype.kind == "f":
        return dtype.type(np.inf if function == "min" else -np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.max if function == "min" else limits.min)


def _series(name: str, values: Array, there: NDArray[np.bool_], dtype: pl.DataType) -> pl.Series:
    """Make a column; where a value is not there it is null, and NaN is of one kind."""
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    column = pl.Series(name, values).cast(dtype)
    if there.all():
        return column
    return pl.select(pl.when(pl.Series(there)).then(column).alias(name)).to_series()
