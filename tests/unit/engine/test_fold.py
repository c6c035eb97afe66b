"""Unit tests of folding: sums of any stretch are exact, whatever was folded before."""

import math
from fractions import Fraction

import numpy as np
import pytest

from featurestore.engine.exact import Exact
from featurestore.engine.fold import folded as fold
from featurestore.engine.parts import every_column, joined
from featurestore.model.tiles import plan_of
from tests.windows import feature, view

PLAN = plan_of(view(feature("sum", "float64", 60, 10)))


def tiles_of(numbers):
    """Give a tile of each number."""
    bare = np.zeros(len(numbers), PLAN.bare)
    bare["valid"] = 1
    bare["float64"][:, 0] = numbers
    columns = every_column(PLAN)
    return columns.records(bare["event"], columns.parts(np.empty(0, PLAN.tile), bare))


def folded(tiles, firsts):
    """Fold stretches of tiles into tiles."""
    columns = every_column(PLAN)
    made = fold(columns, columns.parts(tiles, np.empty(0, PLAN.bare)), firsts)
    return columns.records(tiles["start"][firsts], made)


def total(tiles):
    """Give the sum of folded tiles as float64."""
    return Exact(tiles["high"][:, 0], tiles["low"][:, 0]).floats().tolist()


@pytest.mark.parametrize("digits", [1, 8, 25])
@pytest.mark.parametrize("count", [1, 2, 300, 20_000])
def test_sums_are_rounded_once_however_they_are_grouped(digits, count):
    """All at once, in stretches, or stretches of stretches: the nearest float64, to the bit."""
    random = np.random.default_rng(count)
    numbers = random.normal(size=count) * 10.0 ** random.integers(0, digits, count)
    tiles, expected = tiles_of(numbers), math.fsum(numbers)
    assert total(folded(tiles, np.array([0]))) == [expected]
    cuts = np.unique(np.append(0, random.integers(0, count, 40)))
    parts = folded(tiles, cuts)
    assert total(folded(parts, np.array([0]))) == [expected]
    assert total(parts) == [math.fsum(part) for part in np.split(numbers, cuts[1:])]


@pytest.mark.parametrize("count", [3, 100, 5000])
def test_a_sum_keeps_what_its_float_rounds_away(count):
    """High and low together are off by less than 2**-104 of what was added, whatever cancels."""
    random = np.random.default_rng(count)
    numbers = random.normal(size=count) * 2.0 ** random.integers(-30, 30, count)
    numbers[-1] = -math.fsum(numbers[:-1])
    tiles = folded(tiles_of(numbers), np.array([0]))
    tiles = folded(joined(tiles, tiles_of(numbers / 3)), np.array([0]))
    added = [Fraction(number) for number in (*numbers, *(numbers / 3))]
    found = Fraction(tiles["high"][0, 0]) + Fraction(tiles["low"][0, 0])
    assert abs(found - sum(added)) * 2**104 <= sum(map(abs, added))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1e308, 1e308, -1e308], 1e308),
        ([1e308, 1e308], math.inf),
        ([5e-324, 5e-324, -5e-324], 5e-324),
        ([2.0**100, 1.0, -(2.0**100)], 1.0),
        ([math.inf, 1e308, 1e308], math.inf),
        ([-math.inf, 1.0], -math.inf),
        ([0.0, -0.0], 0.0),
        ([-0.0], 0.0),
    ],
)
def test_extremes_add_up(numbers, expected):
    """Huge, tiny and infinite numbers give what their sum is, never -0.0."""
    (found,) = total(folded(tiles_of(numbers), np.array([0])))
    assert found == expected
    assert not math.copysign(1, found) < 0 or found < 0


def test_infinities_of_both_signs_are_no_number():
    """Nor is anything that NaN is added to; a stretch beside them is untouched."""
    tiles = tiles_of([math.inf, -math.inf, math.nan, 1.0, 2.0])
    found = total(folded(tiles, np.array([0, 2, 4])))
    assert [math.isnan(number) for number in found] == [True, True, False]
    assert found[2] == 2.0
