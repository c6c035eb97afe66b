"""How tables are laid out, by their size."""

from datetime import timedelta

import pytest

from featurestore.model.layout import (
    BUCKET_BYTES,
    MOST_BUCKETS,
    PERIODS_FROM,
    buckets_for,
    period_for,
    row_bytes,
)
from tests.tables import make_view

DAY = timedelta(days=1) // timedelta(microseconds=1)
WIDE = make_view(values={f"x{n}": "float32" for n in range(50)})
NARROW = make_view(keys={"k": "int64"}, values={"x": "float32"})


def test_a_row_takes_its_keys_times_and_features():
    """Numbers by their width, texts and lists by a guess."""
    assert row_bytes(NARROW) == 8 + 3 * 8 + 4 + 4
    assert row_bytes(WIDE) == row_bytes(NARROW) - 8 - 4 + 32 + 50 * 4


@pytest.mark.parametrize(
    ("rows", "buckets"),
    [(0, 1), (1, 1), (10**5, 1), (10**6, 2), (10**7, 32), (10**12, MOST_BUCKETS)],
)
def test_buckets_are_a_power_of_two_that_grows_with_the_size(rows, buckets):
    """A bucket takes at most its share of memory, until there are as many as there may be."""
    found = buckets_for(WIDE, rows)
    assert found == buckets
    assert found & (found - 1) == 0
    assert found == MOST_BUCKETS or rows * row_bytes(WIDE) / found <= BUCKET_BYTES


def test_a_view_without_join_keys_has_one_bucket():
    """All its rows are of one entity."""
    assert buckets_for(make_view(keys={}), 10**9) == 1


@pytest.mark.parametrize(
    ("rows", "days", "period"),
    [
        (10**6, 900, None),
        (10**7, 0, None),
        (10**7, 1, 1),
        (10**7, 10, 7),
        (10**7, 30, 30),
        (10**7, 90, 91),
        (10**7, 900, 365),
        (10**8, 4000, 365),
    ],
)
def test_large_tables_are_cut_by_time_into_parts_worth_a_file(rows, days, period):
    """The shortest usual period with 32 MiB to a partition; small tables are not cut."""
    assert (rows * row_bytes(WIDE) >= PERIODS_FROM) == (rows > 10**6)
    assert period_for(WIDE, rows, days * DAY) == (None if period is None else period * DAY)
