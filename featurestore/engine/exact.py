"""Sums of floats that do not depend on the order of additions: two float64 for one number.

A value is `high + low`, where `low` is what `high` rounds away: some 104 bits together, so that a
sum comes out the same, to the last bit, whatever was added first (but where the digits of one sum
span more than that). What is not finite stands in `high`, with 0 in `low`.

Sources: D. Knuth, The Art of Computer Programming 2, 4.2.2 (two-sum); T. Dekker, A floating-point
technique for extending the available precision, 1971 (splitting, two-product).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SPLIT = 134_217_729.0
_EDGE = 2.0**63


@dataclass(frozen=True, slots=True)
class Exact:
    """Numbers of twice the precision of float64, side by side."""

    high: Floats
    low: Floats

    def __add__(self, other: "Exact") -> "Exact":
        """Add, number by number; infinities and NaN as float64 adds them."""
        with np.errstate(over="ignore", invalid="ignore"):
            return _added(self.high, self.low, other.high, other.low)

    def __getitem__(self, places: NDArray[np.int64] | slice) -> "Exact":
        """Give the numbers at some places."""
        return Exact(self.high[places], self.low[places])

    def __setitem__(self, places: NDArray[np.int64] | slice, other: "Exact") -> None:
        """Put numbers at some places."""
        self.high[places], self.low[places] = other.high, other.low

    def __mul__(self, factor: Floats | float) -> "Exact":
        """Multiply, number by number; what is beyond float64 is infinite."""
        with np.errstate(over="ignore", invalid="ignore"):
            product, error = _two_product(self.high, factor)
            return _renormalized(product, error + self.low * factor)

    def scaled(self, power: float) -> "Exact":
        """Multiply by a power of two; nothing is lost, but for what is beyond float64."""
        with np.errstate(over="ignore"):
            return Exact(self.high * power, self.low * power)

    def take(self, places: NDArray[np.int64]) -> "Exact":
        """Give the numbers at some places; one beyond the ends is the first or last."""
        return Exact(self.high.take(places, mode="clip"), self.low.take(places, mode="clip"))

    def rows(self, places: NDArray[np.int64]) -> "Exact":
        """Give some rows of numbers."""
        return Exact(self.high.take(places, axis=0), self.low.take(places, axis=0))

    def floats(self) -> Floats:
        """Give the nearest float64 of each; never -0.0, and NaN of one kind."""
        rounded = self.high + self.low + 0.0
        rounded[np.isnan(rounded)] = np.nan
        return rounded

    def integers(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Give whole numbers as int64, and whether each fits; one that does not is 0."""
        small = np.abs(self.high) < _EDGE / 2
        if complete(small):
            return self.high.astype(np.int64) + self.low.astype(np.int64), small
        inside = (self.high < _EDGE) | ((self.high == _EDGE) & (self.low < 0))
        inside &= (self.high > -_EDGE) | ((self.high == -_EDGE) & (self.low >= 0))
        # 2**63 itself has no int64: half of it twice, the low part between, stays in range.
        half = np.where(inside, self.high / 2, 0.0)
        whole = np.floor(half)
        rest = (half - whole) * 2 + np.where(inside, self.low, 0.0)
        number = whole.astype(np.int64)
        return number + rest.astype(np.int64) + number, inside


def zeros(count: int) -> Exact:
    """Give so many zeros."""
    return Exact(np.zeros(count), np.zeros(count))


def exact(values: NDArray[np.generic]) -> Exact:
    """Give numbers as they are: floats, Booleans and integers of any width, also beyond 2**53."""
    high = values.astype(np.float64)
    if values.dtype.kind not in "iu" or values.dtype.itemsize < np.dtype(np.int64).itemsize:
        return Exact(high, np.zeros(high.shape))
    # 2**63 has no int64: the least one stands for it, and what is left over wraps to the right one.
    rounded = np.where(high < _EDGE, high, -_EDGE).astype(np.int64)
    return Exact(high, (values.astype(np.int64, copy=False) - rounded).astype(np.float64))


def squared(values: Exact) -> Exact:
    """Give the squares; one beyond float64 is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        square, error = _two_product(values.high, values.high)
        if not values.low.any():
            return Exact(square, error)
        return _renormalized(square, error + 2 * values.high * values.low)


def variances(count: NDArray[np.int64], sums: Exact, squares: Exact) -> Floats:
    """Give the sample variance of so many numbers, of their sum and the sum of their squares.

    NaN below two numbers, and where something is not finite, be it the count times the squares.
    """
    numbers = count.astype(np.float64)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        # The squares times the count, and the square of the sum, in one go.
        one, two = np.array((squares.high, sums.high)), np.array((numbers, sums.high))
        products, errors = _two_product(one, two)
        errors += np.array((squares.low * numbers, 2 * sums.high * sums.low))
        both = _renormalized(products, errors)
        spread = _added(both.high[0], both.low[0], -both.high[1], -both.low[1]).floats()
        # Of no number or one this is divided by zero, and so not finite either.
        variance = np.maximum(spread, 0.0) / (numbers * (numbers - 1))
        finite = np.isfinite(variance)
    return variance if complete(finite) else np.where(finite, variance, np.nan)


def two_sum(one: Floats, two: Floats) -> tuple[Floats, Floats]:
    """Give sums, and what float64 rounds away of each: NaN where one is not finite."""
    total = one + two
    of_two = total - one
    return total, (one - (total - of_two)) + (two - of_two)


def _added(one: Floats, below: Floats, two: Floats, under: Floats) -> Exact:
    total, error = two_sum(one, two)
    return _renormalized(total, _finite(error) + (below + under))


def _two_product(one: Floats, two: Floats | float) -> tuple[Floats, Floats]:
    product = one * two
    upper, lower = _halves(one)
    above, below = (upper, lower) if two is one else _halves(two)
    error = ((upper * above - product) + upper * below + lower * above) + lower * below
    return product, _finite(error)


def _halves(values: Floats | float) -> tuple[Floats | float, Floats | float]:
    spread = values * _SPLIT
    upper = spread - (spread - values)
    return upper, values - upper


def _renormalized(high: Floats, low: Floats) -> Exact:
    total = high + _finite(low)
    return Exact(total, _finite(low - (total - high)))


def _finite(values: Floats) -> Floats:
    """Put 0 for what is not finite."""
    finite = np.isfinite(values)
    return values if complete(finite) else np.where(finite, values, 0.0)


def complete(mask: NDArray[np.bool_ | np.uint8]) -> bool:
    """Say whether all of a mask is true: of a few numbers in a tenth of the time of `all`."""
    return bool(np.count_nonzero(mask) == mask.size)
