"""Sums that do not depend on the order of additions, against fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.engine.exact import Exact, exact, squared, variances, zeros

LOWEST, HIGHEST = -(2**63), 2**63 - 1
ODD = (math.inf, -math.inf, math.nan)
INT64 = st.integers(LOWEST, HIGHEST) | st.sampled_from([LOWEST, HIGHEST, 2**53 + 1, HIGHEST - 511])
SPANNING = st.builds(math.ldexp, st.integers(-(2**53), 2**53).map(float), st.integers(-23, 23))
"""Floats whose digits, and those of a sum of sixteen, span 104 bits."""


def numbers(found: Exact) -> list[Fraction]:
    """Give the numbers that finite pairs stand for."""
    pairs = zip(found.high.tolist(), found.low.tolist(), strict=True)
    return [Fraction(high) + Fraction(low) for high, low in pairs]


def of(*values: float) -> Exact:
    return exact(np.array(values, np.float64))


@given(values=st.lists(SPANNING, min_size=2, max_size=16), data=st.data())
def test_a_sum_of_104_bits_is_exact_in_any_grouping(values, data):
    """Whatever is added first, the sum is the one of fractions."""
    parts = [of(value) for value in values]
    while len(parts) > 1:
        one = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        other = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(one + other)
    assert numbers(parts[0]) == [sum(map(Fraction, values))]
    assert parts[0].floats().tolist() == [float(sum(map(Fraction, values)))]


@given(values=st.lists(INT64, min_size=1))
def test_integers_are_exact_and_come_back(values):
    """Every int64 is held to its last digit."""
    found = exact(np.array(values, np.int64))
    assert numbers(found) == values
    whole, fits = found.integers()
    assert whole.tolist() == values
    assert fits.all()


@pytest.mark.parametrize("total", [2**63, 2**63 + 1, LOWEST - 1, 2**64, *ODD])
def test_what_is_no_int64_says_so(total):
    """Sums beyond int64 and what is not finite do not fit, and give 0."""
    if isinstance(total, float):
        found = of(total)
    else:
        found = exact(np.array([total // 2])) + exact(np.array([total - total // 2]))
    whole, fits = found.integers()
    assert (whole.tolist(), fits.tolist()) == ([0], [False])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "float32"])
def test_narrow_numbers_are_exact(dtype):
    """Booleans, narrow integers and floats keep their value."""
    assert numbers(exact(np.array([0, 1], dtype))) == [0, 1]


@given(value=st.floats(2.0**-400, 2.0**400) | st.floats(-(2.0**400), -(2.0**-400)))
def test_squares_are_exact(value):
    """The square of a float has all its digits."""
    assert numbers(squared(of(value))) == [Fraction(value) ** 2]


@given(values=st.lists(st.floats(), min_size=1, max_size=6))
def test_what_is_not_finite_adds_as_floats_do(values):
    """Infinities and NaN are in the sum what they are among floats; nothing is left low."""
    total, squares = zeros(1), zeros(1)
    for value in values:
        total, squares = total + of(value), squares + squared(of(value))
    odd = {value for value in values if not math.isfinite(value)}
    if odd:
        want = odd.pop() if len(odd) == 1 else math.nan
        assert repr(total.floats().item()) == repr(want)
        assert not math.isfinite(squares.floats().item())
    assert np.isfinite(total.low).all()


def test_overflow_is_infinite():
    """What is beyond float64 is infinite, in sums, squares and products."""
    most = of(1.7e308)
    assert (most + most).floats().item() == math.inf
    assert squared(most).floats().item() == math.inf
    assert (most * 16.0).floats().item() == math.inf
    assert most.scaled(2.0).floats().item() == math.inf


def test_floats_have_one_zero_and_one_nan():
    """-0.0 is given as 0.0, and any NaN as the usual one."""
    strange = np.array([0xFFF8_0000_0000_BEEF], np.uint64).view(np.float64)
    assert exact(strange).floats().tobytes() == np.array([np.nan]).tobytes()
    assert of(-0.0).floats().tobytes() == np.zeros(1).tobytes()


def test_places_are_taken_and_put():
    """Numbers are read and written by place; beyond the ends stands the first or last."""
    found = of(1.0, 2.0, 3.0)
    found[np.array([0])] = of(5.0)
    assert numbers(found[1:]) == [2, 3]
    assert numbers(found.take(np.array([-4, 9]))) == [5, 3]


def spread(values: list[float]) -> float:
    """Give the variance that comes of exact sums."""
    total, squares = zeros(1), zeros(1)
    for value in values:
        total, squares = total + of(value), squares + squared(of(value))
    return float(variances(np.array([len(values)]), total, squares).item())


@given(values=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=20))
def test_the_variance_of_whole_numbers_is_exact(values):
    """Nothing is lost to the size of the mean: the variance is that of fractions, rounded."""
    count = len(values)
    want = Fraction(count * sum(v * v for v in values) - sum(values) ** 2, count * (count - 1))
    assert spread([float(value) for value in values]) == float(want)


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([3.0], math.nan),
        ([], math.nan),
        ([2.5, 2.5, 2.5], 0.0),
        ([1e9 + 0.25, 1e9 - 0.25], 0.125),
        ([1.0, math.nan], math.nan),
        ([1.0, math.inf], math.nan),
        ([1e200, 1.0], math.nan),
        ([5e-324, 0.0], 0.0),
    ],
)
def test_a_variance_that_cannot_be_is_nan(values, want):
    """Below two numbers, of what is not finite and of squares beyond float64; never below 0."""
    assert repr(spread(values)) == repr(want)
