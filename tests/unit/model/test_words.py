"""Counts and sizes as people read them."""

import pytest

from featurestore.model.words import count, size


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (12_345, "12.3 kB"),
        (999_700, "1 MB"),
        (5 * 10**9, "5 GB"),
        (2 * 10**13, "20 TB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(number, written):
    """What rounds to a thousand of a unit is one of the next."""
    assert size(number) == written


@pytest.mark.parametrize(("number", "written"), [(0, "0 rows"), (1, "1 row"), (2000, "2,000 rows")])
def test_one_alone_is_singular(number, written):
    """Of one thing there is no plural."""
    assert count(number, "row") == written
