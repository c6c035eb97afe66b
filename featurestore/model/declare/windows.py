"""Window features: every rule their declaration must keep."""

import re
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from featurestore.errors import InvalidDefinition
from featurestore.model.documents import Function
from featurestore.model.schema import SCALARS
from featurestore.model.windows import TAKES, every_of, output_of

_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = re.compile(r"([0-9]{1,19})(us|ms|s|m|h|d|w)")
_SPAN = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = _UNITS["d"] * 3_650_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aggregate:
    """A function of the rows that a window covers, as it was written.

    `of` is the ROW expression that gives each row's input (None: every row counts), `filter` says
    which rows count. `every` None stands for the usual one.
    """

    function: Function
    of: pl.Expr | None
    filter: pl.Expr | None
    length: str | timedelta
    every: str | timedelta | None

    def check(self, path: str) -> None:
        """Refuse what is written wrong, whatever the source's columns are.

        Raises:
            InvalidDefinition: an expression is none or is missing, or the spans are refused.
        """
        for name, expr in (("of", self.of), ("filter", self.filter)):
            if expr is not None and not isinstance(expr, pl.Expr):
                column = expr if isinstance(expr, str) else "delay"
                raise InvalidDefinition(
                    f"{path}.{name}: {expr!r} is no Polars expression; write such as "
                    f"pl.col({column!r})"
                )
        if self.of is None and self.function != "count":
            raise InvalidDefinition(
                f"{path}.of: is missing; say what to compute it of: {self.function}(pl.col('…'))"
            )
        self.spans(path)

    def spans(self, path: str) -> tuple[int, int]:
        """Give length and every in microseconds.

        Raises:
            InvalidDefinition: one is no span of time, or `every` is longer than the length.
        """
        length = span(self.length, f"{path}.length")
        every = every_of(length) if self.every is None else span(self.every, f"{path}.every")
        if every > length:
            raise InvalidDefinition(
                f"{path}.every: {self.every} is longer than the window, {self.length}; its tail "
                "moves in steps of at most its length"
            )
        return length, every

    def input(self) -> pl.Expr:
        """Give the expression of each row's input: null where the row does not count."""
        if self.function == "count":
            there = pl.lit(value=True) if self.of is None else self.of.is_not_null()
            counts = there if self.filter is None else there & self.filter
            return pl.when(counts).then(True)
        assert self.of is not None
        return self.of if self.filter is None else pl.when(self.filter).then(self.of)


def span(value: str | timedelta, path: str) -> int:
    """Give the microseconds of a span such as '7d', '1h30m' or a timedelta.

    Raises:
        InvalidDefinition: it is none, not positive, or longer than ten thousand years.
    """
    if isinstance(value, timedelta):
        found = value // timedelta(microseconds=1)
    elif isinstance(value, str) and _SPAN.fullmatch(value):
        found = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    else:
        raise InvalidDefinition(
            f"{path}: {value!r:.40} is no span of time; write '7d', '1h' or '90m', or a timedelta"
        )
    if not 0 < found <= _LONGEST:
        raise InvalidDefinition(
            f"{path}: {value} is too short or too long; give a span above zero, of at most ten "
            "thousand years"
        )
    return found


def check_input(function: Function, dtype: str, path: str) -> None:
    """Refuse an input of a dtype that a function does not take."""
    if dtype not in TAKES[function]:
        taken = ", ".join(name for name in SCALARS if name in TAKES[function])
        raise InvalidDefinition(
            f"{path}: {function} takes {taken}, and its input is {dtype}; cast it, or compute a "
            "number of it"
        )


def window_dtype(function: Function, dtype: str | None) -> str | None:
    """Give the dtype of a function over inputs of a dtype; None where that is not known or fits."""
    return output_of(function, dtype) if dtype in TAKES[function] else None
