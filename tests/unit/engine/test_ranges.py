"""Sums, counts and extremes of stretches, whatever else stands in the column."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featurestore.engine.ranges import counts, ends, extremes, square_sums, sums
from featurestore.engine.spans import Span

INT64 = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def every_stretch(count: int) -> Span:
    """Give all stretches of so many rows, the empty ones too."""
    low, high = np.triu_indices(count + 1)
    return Span(asked=None, low=low.astype(np.int64), high=high.astype(np.int64))


def stretches(values, span: Span):
    return [values[low:high] for low, high in zip(span.low, span.high, strict=True)]


@settings(max_examples=150)
@given(values=st.lists(FINITE, max_size=9))
@example(values=[1e308, 5e-324, -1e308, 2.0**-1060, 3.0])
@example(values=[1e16, 1.0, -1e16, 0.1])
@example(values=[2.0**-1074, 2.0**-1000])
def test_no_digit_of_a_float_is_lost(values):
    """The sum of any stretch is that of fractions, rounded once, whatever the magnitudes."""
    span = every_stretch(len(values))
    (found,) = sums(np.array(values, np.float64), [span])
    for got, part in zip(found.floats().tolist(), stretches(values, span), strict=True):
        want = sum(map(Fraction, part), Fraction(0))
        if abs(want) < Fraction(2) ** 1023:
            assert math.isclose(got, want, rel_tol=2.0**-52, abs_tol=0)


@given(values=st.lists(INT64, max_size=9), narrow=st.booleans())
def test_integers_add_up_exactly_until_they_do_not_fit(values, narrow):
    """A sum is every digit of it, or is said not to fit."""
    values = [value >> 32 for value in values] if narrow else values
    span = every_stretch(len(values))
    (total,) = sums(np.array(values, np.int32 if narrow else np.int64), [span])
    whole, fits = total.integers()
    wants = [sum(part) for part in stretches(values, span)]
    inside = [-(2**63) <= want < 2**63 for want in wants]
    assert fits.tolist() == inside
    assert whole.tolist() == [want if fit else 0 for want, fit in zip(wants, inside, strict=True)]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint32", "int64", "float64"])
def test_squares_add_up(dtype):
    """The sum of squares is exact, from the least to the greatest of each dtype."""
    whole = dtype not in ("bool", "float64")
    edges = [np.iinfo(dtype).min, np.iinfo(dtype).max] if whole else [0, 1]
    values = np.array([*edges, 1, 0, edges[0]], dtype)
    span = every_stretch(len(values))
    (found,) = square_sums(values, [span])
    for got, part in zip(found.floats().tolist(), stretches(values.tolist(), span), strict=True):
        assert got == float(sum(int(value) ** 2 for value in part))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_only_in_the_stretches_that_hold_it(odd):
    """A NaN or infinity leaves no trace beside it."""
    values = [1.5, odd, 2.5, -odd]
    span = every_stretch(len(values))
    (found,) = sums(np.array(values), [span])
    for got, part in zip(found.floats().tolist(), stretches(values, span), strict=True):
        strange = [value for value in part if not math.isfinite(value)]
        want = sum(part) if len(strange) < 2 else math.nan
        assert repr(got) == repr(float(want))


@given(values=st.lists(INT64, max_size=20))
def test_extremes_are_those_of_each_stretch(values):
    """The least and greatest of any stretch, the identity of an empty one."""
    span, lowest, highest = every_stretch(len(values)), -(2**63), 2**63 - 1
    array = np.array(values, np.int64)
    (least,) = extremes(array, [span], np.minimum, highest)
    (greatest,) = extremes(array, [span], np.maximum, lowest)
    parts = stretches(values, span)
    assert least.tolist() == [min(part, default=highest) for part in parts]
    assert greatest.tolist() == [max(part, default=lowest) for part in parts]


@given(valid=st.lists(st.booleans(), max_size=9))
def test_ends_and_counts_pass_over_what_is_not_valid(valid):
    """The first and last valid row of any stretch, and how many there are."""
    span = every_stretch(len(valid))
    mask = np.array(valid, np.bool_)
    rows = [[row for row in part if valid[row]] for part in stretches(range(len(valid)), span)]
    (number,) = counts(mask, [span])
    assert number.tolist() == [len(part) for part in rows]
    for last in (False, True):
        ((found, some),) = ends(mask, [span], last=last)
        got = [row if there else None for row, there in zip(found, some, strict=True)]
        assert got == [part[-1 if last else 0] if part else None for part in rows]
