"""What a window answers, told so slowly that it cannot be wrong: one event after the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from featurestore.model.documents import Window


@dataclass(frozen=True)
class Event:
    """One row of a view with windows; times are microseconds, `inputs` by column."""

    key: object
    event: int
    created: int | None
    revision: int
    number: int
    inputs: dict[str, object]

    def known(self, delay: int) -> int:
        """When the row became known."""
        shifted = self.event + delay
        return shifted if self.created is None else max(shifted, self.created)

    @property
    def order(self) -> tuple[object, ...]:
        """Where it stands among the events of its key."""
        return (self.event, self.created is not None, self.created or 0, self.revision, self.number)

    @property
    def version(self) -> tuple[object, ...]:
        """Where it stands among the versions of its event."""
        return (self.created is not None, self.created or 0, self.revision, self.event)


def covered(
    events: Sequence[Event],
    key: object,
    at: int,
    window: Window,
    *,
    delay: int,
    versions: bool,
    as_known: bool = True,
) -> list[Event]:
    """Give the events that a window covers at a moment, in order."""
    seen = [one for one in events if one.key == key and one.event <= at]
    if as_known:
        seen = [one for one in seen if one.known(delay) <= at]
    if versions:
        newest: dict[int, Event] = {}
        for one in seen:
            if one.number not in newest or one.version > newest[one.number].version:
                newest[one.number] = one
        seen = list(newest.values())
    first = (at - window.length) // window.every * window.every
    return sorted((one for one in seen if one.event >= first), key=lambda one: one.order)


def answer(window: Window, values: Sequence[object]) -> tuple[object, float]:
    """Give what a window makes of its inputs, in order, and how far a float may be from it."""
    there = [one for one in values if one is not None]
    match window.function:
        case "count":
            return len(there), 0.0
        case "first" | "last":
            return (there[0 if window.function == "first" else -1] if there else None), 0.0
        case "min" | "max":
            return _extreme(window.function, there), 0.0
    return _added(window, there)


def _added(window: Window, there: Sequence[float]) -> tuple[object, float]:
    whole = window.dtype == "bool" or "int" in window.dtype
    if not there:
        return ((0 if whole else 0.0) if window.function == "sum" else None), 0.0
    if not all(map(math.isfinite, there)):
        return _unbound(window.function, there), 0.0
    exact = [Fraction(one) for one in there]
    total, size = sum(exact, Fraction(0)), sum(map(abs, exact), Fraction(0))
    if window.function == "mean":
        return _float(total) / len(there), 1e-9 * _float(size) / len(there)
    if window.function in ("var", "std"):
        return _spread(window, exact, total)
    if whole:
        return (int(total) if -(2**63) <= total < 2**63 else None), 0.0
    return _float(total), 1e-9 * _float(size)


def _spread(
    window: Window, exact: Sequence[Fraction], total: Fraction
) -> tuple[float | None, float]:
    if len(exact) < 2:
        return None, 0.0
    squares = sum((one * one for one in exact), Fraction(0))
    variance = _float((squares - total * total / len(exact)) / (len(exact) - 1))
    if window.function == "var":
        return variance, 1e-9 * _float(squares)
    return math.sqrt(variance), math.sqrt(1e-9 * _float(squares))


def alike(found: object, expected: object, within: float) -> bool:
    """Say whether a value is the oracle's: exactly, but for floats that may be off a little."""
    if isinstance(expected, float) and isinstance(found, float):
        if math.isnan(expected) or math.isnan(found) or math.isinf(within):
            return math.isinf(within) or math.isnan(expected) == math.isnan(found)
        return expected == found or abs(found - expected) <= within
    return type(found) is type(expected) and found == expected


def _extreme(function: str, there: Sequence[object]) -> object:
    numbers = [one for one in there if not (isinstance(one, float) and math.isnan(one))]
    if not numbers:
        return math.nan if there else None
    found = min(numbers) if function == "min" else max(numbers)  # type: ignore[type-var]
    return found + 0.0 if isinstance(found, float) else found


def _unbound(function: str, there: Sequence[object]) -> object:
    """Give what NaN and infinities make: NaN, or the one infinity there is, of a sum or mean."""
    if function in ("var", "std"):
        return math.nan if len(there) > 1 else None
    return math.fsum(there) if len({*filter(math.isinf, there)}) < 2 else math.nan  # type: ignore[arg-type]


def _float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
