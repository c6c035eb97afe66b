"""Windows as users write them: `Window("7d", every="1h").mean(pl.col("delay"))`."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl
from feast.aggregation import Aggregation

from featurestore.errors import InvalidDefinition
from featurestore.model.declare import Aggregate
from featurestore.model.documents import Function

_OF_FEAST: dict[str, Function] = {
    "count": "count",
    "sum": "sum",
    "mean": "mean",
    "avg": "mean",
    "min": "min",
    "max": "max",
    "std": "std",
    "var": "var",
}


@dataclass(frozen=True, slots=True)
class Window:
    """The rows of a key from `length` ago to now, its tail snapped to multiples of `every`.

    At a moment t it covers events from floor(t - length, every), counted from 1970 UTC, to t, as
    far as they are known at t: exact at its head, in steps at its tail. It moves on as time passes,
    also when no event comes; a view's ttl does not apply to it.

    Each method makes a feature: a function of an expression's values over the rows that the window
    covers, of those for which `filter` is true. Null values count nowhere; without any, count and
    sum are 0 and all else is null. The view that the feature is given to checks what is written
    here, and names the feature where it refuses.

    Args:
        length: How far it reaches back: '7d', '12h', '90m', or a timedelta.
        every: The steps of its tail, at most the length; by default a day from 12 days up, an hour
            from 12 hours up, else five minutes.
    """

    length: str | timedelta
    every: str | timedelta | None = None

    def count(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """How many values are not null, or how many rows there are: int64."""
        return self._of("count", of, filter)

    def sum(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The sum: int64 of integers and Booleans (null if it does not fit), else float64."""
        return self._of("sum", of, filter)

    def mean(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The mean, float64; of a Boolean the share of true."""
        return self._of("mean", of, filter)

    def std(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The sample standard deviation (n - 1), float64; null below two values."""
        return self._of("std", of, filter)

    def var(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The sample variance (n - 1), float64; null below two values."""
        return self._of("var", of, filter)

    def min(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The least value, in its dtype; NaN only if all are."""
        return self._of("min", of, filter)

    def max(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The greatest value, in its dtype; NaN only if all are."""
        return self._of("max", of, filter)

    def first(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The value of the earliest event, in its dtype."""
        return self._of("first", of, filter)

    def last(self, of: pl.Expr | None = None, *, filter: pl.Expr | None = None) -> Aggregate:  # noqa: A002
        """The value of the latest event, in its dtype."""
        return self._of("last", of, filter)

    def _of(self, function: Function, of: pl.Expr | None, kept: pl.Expr | None) -> Aggregate:
        return Aggregate(
            function=function, of=of, filter=kept, length=self.length, every=self.every
        )


def aggregates(view: str, aggregations: list[Aggregation]) -> dict[str, Aggregate]:
    """Give Feast's aggregations as window features, under the names that Feast gives them.

    Raises:
        InvalidDefinition: one has no window or an unknown function, or two have one name.
    """
    found: dict[str, Aggregate] = {}
    for one in aggregations:
        name = one.resolved_name(one.time_window)
        path = f"{view}.aggregations.{name}"
        if one.function not in _OF_FEAST:
            raise InvalidDefinition(
                f"{path}: {one.function!r} is not computed; there are {', '.join(_OF_FEAST)}"
            )
        if not one.time_window:
            raise InvalidDefinition(f"{path}: has no time_window; give how far it reaches back")
        if name in found:
            raise InvalidDefinition(f"{path}: two aggregations have this name; set name=…")
        # Without a slide_interval Feast sets the window's own length: then the usual steps.
        given = one.slide_interval != one.time_window
        window = Window(one.time_window, one.slide_interval if given else None)
        of = None if one.column in ("", "*") else pl.col(one.column)
        found[name] = window._of(_OF_FEAST[one.function], of, None)  # noqa: SLF001 - of this module
    return found
