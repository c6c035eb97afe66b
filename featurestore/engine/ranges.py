"""Aggregates of many stretches of a column at once, at a cost that their lengths do not change.

Sums are differences of prefix sums, and yet nothing outside a stretch leaves a trace in its sum:
the prefix sums are of whole numbers, which lose no digit. A float is cut into such numbers from its
highest digits down, as many as it takes until none of a column's digits is left (one for what was
a whole number, two for most); infinities and NaN are counted apart. The least and greatest come of
two overlapping stretches whose length is a power of two: one pass over the column for each power.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, Floats, exact, squared, zeros
from featurestore.engine.spans import Integers, Span, prefix

Array = NDArray[Any]
Pick = Callable[[Array, Array], Array]
"""`np.minimum` or `np.maximum`."""

_BITS = 62
_HALF = 32
_HIGHEST, _DEEPEST = 1000, 1074
_BLOCK = 1 << 14


def counts(valid: NDArray[np.bool_] | None, spans: Sequence[Span]) -> list[Integers]:
    """Count what is valid in each stretch; None says that all is."""
    if valid is None:
        return [span.high - span.low for span in spans]
    sums = prefix(valid)
    return [sums.take(span.high) - sums.take(span.low) for span in spans]


def sums(values: Array, spans: Sequence[Span]) -> list[Exact]:
    """Add up each stretch: Booleans, integers of any width, or floats.

    A sum with a NaN or with both infinities is NaN, one with an infinity is that, as is one beyond
    float64.
    """
    if values.dtype.kind != "f":
        return _added(_cut_integers(values, _width(spans)), spans)
    values = values.astype(np.float64, copy=False)
    finite = np.isfinite(values)
    if finite.all():
        return _added(_cut_floats(values, _width(spans)), spans)
    totals = _added(_cut_floats(np.where(finite, values, 0.0), _width(spans)), spans)
    odd = (np.isnan(values), values == np.inf, values == -np.inf)
    return [
        _poisoned(total, *(found > 0 for found in of_span))
        for total, *of_span in zip(totals, *(counts(mask, spans) for mask in odd), strict=True)
    ]


def square_sums(values: Array, spans: Sequence[Span]) -> list[Exact]:
    """Add up the squares of each stretch, as `sums` does."""
    if values.dtype.kind != "f" and _greatest(values) <= 1 << 31:
        whole = values.astype(np.int64)
        return sums(whole * whole, spans)
    high, low = np.empty(len(values)), np.empty(len(values))
    for block in _blocks(len(values)):
        square = squared(exact(values[block]))
        high[block], low[block] = square.high, square.low
    return [one + two for one, two in zip(sums(high, spans), sums(low, spans), strict=True)]


def extremes(values: Array, spans: Sequence[Span], pick: Pick, identity: Any) -> list[Array]:
    """Give the least or greatest of each stretch, the identity of an empty one; none is NaN."""
    found = [np.full(len(span.low), identity, values.dtype) for span in spans]
    powers = [np.frexp((span.high - span.low).astype(np.float64))[1] - 1 for span in spans]
    for power in range(_longest(spans).bit_length()):
        half = 1 << power >> 1
        values = pick(values[:-half], values[half:]) if half else values
        for best, span, of_span in zip(found, spans, powers, strict=True):
            here = np.flatnonzero(of_span == power)
            ends = span.high[here] - (1 << power)
            best[here] = pick(values.take(span.low[here]), values.take(ends))
    return found


def ends(
    valid: NDArray[np.bool_] | None, spans: Sequence[Span], *, last: bool
) -> list[tuple[Integers, NDArray[np.bool_]]]:
    """Give the first (or last) valid row of each stretch, and whether there is one."""
    if valid is None:
        return [(span.high - 1 if last else span.low, span.low < span.high) for span in spans]
    places, sums = np.append(np.flatnonzero(valid), -1), prefix(valid)
    found = []
    for span in spans:
        begin, end = sums.take(span.low), sums.take(span.high)
        found.append((places.take(end - 1 if last else begin, mode="clip"), begin < end))
    return found


def _added(cut: Iterator[tuple[Integers, int]], spans: Sequence[Span]) -> list[Exact]:
    """Add up each stretch of numbers that are cut into pieces, the highest first."""
    totals = [zeros(len(span.low)) for span in spans]
    for number, (whole, exponent) in enumerate(cut):
        added = prefix(whole)
        for total, span in zip(totals, spans, strict=True):
            for block in _blocks(len(span.low)):
                part = exact(added.take(span.high[block]) - added.take(span.low[block]))
                part = part.scaled(2.0**exponent) if exponent else part
                total[block] = total[block] + part if number else part
    return totals


def _cut_integers(values: Array, width: int) -> Iterator[tuple[Integers, int]]:
    """Cut integers and Booleans into whole numbers of at most `width` bits, times 2**exponent."""
    whole = values.astype(np.int64, copy=False)
    if values.dtype.itemsize < np.dtype(np.int64).itemsize or _greatest(whole) < 1 << width:
        yield whole, 0
    else:
        yield whole >> _HALF, _HALF
        yield whole & ((1 << _HALF) - 1), 0


def _cut_floats(values: Floats, width: int) -> Iterator[tuple[Integers, int]]:
    """Cut finite floats into whole numbers of at most `width` bits, times 2**exponent.

    No step rounds. What is left stays in its own place: scaled down, small numbers would vanish.
    The whole numbers stand in one array, to be used before the next ones are cut.
    """
    left, whole = values.copy(), np.empty(len(values), np.int64)
    greatest = _greatest(left)
    while greatest:
        shift = min(width - int(np.frexp(greatest)[1]), _DEEPEST)
        greatest = 0.0
        for block in _blocks(len(left)):
            rest, cut = left[block], whole[block]
            cut[:] = rest * 2.0**shift if shift < _HIGHEST else np.ldexp(rest, shift)
            rest -= cut * 2.0**-shift
            greatest = max(greatest, _greatest(rest))
        yield whole, -shift


def _blocks(count: int) -> Iterator[slice]:
    """Go through an array in pieces that stay in a processor's cache from one step to the next."""
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def _poisoned(
    total: Exact, nan: NDArray[np.bool_], above: NDArray[np.bool_], below: NDArray[np.bool_]
) -> Exact:
    """Put what is not finite into sums of the finite."""
    odd = np.where(nan | (above & below), np.nan, np.where(above, np.inf, -np.inf))
    some = nan | above | below
    return Exact(np.where(some, odd, total.high), np.where(some, 0.0, total.low))


def _width(spans: Sequence[Span]) -> int:
    """Give how many bits a number may have so that no stretch's sum leaves int64."""
    return _BITS - _longest(spans).bit_length()


def _longest(spans: Sequence[Span]) -> int:
    return max((int((span.high - span.low).max(initial=0)) for span in spans), default=0)


def _greatest(values: Array) -> Any:
    """Give the greatest magnitude, as Python's number: that of the least int64 is no int64."""
    return max(values.max(initial=0).item(), -values.min(initial=0).item())
