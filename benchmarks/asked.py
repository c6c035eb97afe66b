"""Which windowed features the benchmarks ask for; imports nothing heavy.

Events have the inputs `amount` and `duration` (float64, one duration in twenty null), `size`
(float32), `quantity` (int32) and `late` (Boolean). No number is negative: the sum of absolute
values, which bounds how far sums of floats may differ, is then the sum itself.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

INPUTS = ("amount", "duration", "size", "quantity", "late")
DAY, HOUR, MINUTE = 86_400_000_000, 3_600_000_000, 60_000_000
_MIXED = (
    ("count", ""),
    ("sum", "amount"),
    ("mean", "duration"),
    ("max", "size"),
    ("sum", "quantity"),
    ("mean", "late"),
)
_ALL = (
    *(("count", ""), ("sum", "late"), ("mean", "late")),
    *((function, "amount") for function in ("sum", "mean", "std", "min", "max")),
    *((function, "duration") for function in ("sum", "mean", "std", "min", "max")),
    *((function, "size") for function in ("sum", "mean", "min", "max")),
    *((function, "quantity") for function in ("sum", "mean", "max")),
)


class Asked(NamedTuple):
    """A function of an input (of rows where it is empty) over so many days."""

    function: str
    column: str
    days: int

    @property
    def name(self) -> str:
        """The feature's name."""
        return "_".join(part for part in (self.function, self.column, f"{self.days}d") if part)

    @property
    def every(self) -> int:
        """How finely the tail moves, microseconds: by the hour, of long windows by the day."""
        return HOUR if self.days < 12 else DAY


def mixed() -> list[Asked]:
    """Give twenty features over three windows: six of each, two deviations of the longer ones."""
    days = (1, 7, 30)
    features = [Asked(*one, of) for of in days for one in _MIXED]
    return features + [Asked("std", "duration", of) for of in days[1:]]


def over(days: int) -> list[Asked]:
    """Give twenty features over one window."""
    return [Asked(*one, days) for one in _ALL]


def read(given: Iterable[Sequence[str | int]]) -> list[Asked]:
    """Give features back that went through JSON."""
    return [Asked(str(function), str(column), int(days)) for function, column, days in given]
