"""How far ahead an event may lie."""

from datetime import timedelta

import pytest

from featurestore.errors import InvalidRequest
from featurestore.model.pushes import skew_of


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("10m", r"'10m' is no timedelta; write such as timedelta\(minutes=10\)"),
        (None, "None is no timedelta"),
        (600, "600 is no timedelta"),
        (timedelta(microseconds=-1), "-1 day, 23:59:59.999999 is below zero"),
        (timedelta.max, "is below zero or above ten thousand years; give another"),
    ],
)
def test_a_skew_is_a_timedelta_that_a_clock_can_have(given, told):
    """What is none is refused with the way out; zero and ten thousand years are fine."""
    with pytest.raises(InvalidRequest, match=rf"^max_skew: .*{told}"):
        skew_of(given)
    assert skew_of(timedelta(0)) == 0
    assert skew_of(timedelta(days=3_650_000)) == 3_650_000 * 86_400_000_000
