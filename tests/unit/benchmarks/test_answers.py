"""Answers are compared before times are: what differs, is missing or misplaced is found."""

from datetime import UTC, datetime

import polars as pl
import pytest

SPINE = pl.DataFrame(
    {"row": [0, 1, 2], "key": [5, 6, 7], "event_timestamp": [datetime(2024, 1, 2, tzinfo=UTC)] * 3}
)
WHOLE = SPINE.with_columns(f000=pl.Series([1.0, None, 3.0], dtype=pl.Float32))


@pytest.fixture
def compared(benchmark, tmp_path):
    """Compare frames as two sides' answers, the second one's with the first."""
    answers = benchmark("answers")

    def compare(reference, other, **more):
        files = {}
        for name, frame in (("one", reference), ("other", other)):
            files[name] = tmp_path / f"{name}.parquet"
            frame.write_parquet(files[name])
        return answers.compared(files, "one", SPINE, **more)

    return compare


@pytest.fixture
def unequal(benchmark):
    """The error of answers that differ."""
    return benchmark("report").Unequal


def test_order_zone_and_nan_for_null_are_no_difference(compared):
    """A peer may answer in any order, and pandas makes NaN of null."""
    other = WHOLE.reverse().with_columns(
        pl.col("f000").fill_null(float("nan")),
        pl.col("event_timestamp").dt.convert_time_zone("Europe/Berlin"),
    )
    assert compared(WHOLE, other) == ["other = one: 3 rows x 1 features, bit for bit"]


def test_a_side_that_loses_rows_is_compared_on_the_others(compared):
    """What it lost is counted, and how many of that had a value."""
    (line,) = compared(WHOLE, WHOLE.filter(pl.col("row") != 1), losing="other")
    assert "lost 1 of 3 entity rows (1 of them without a reading that counts)" in line


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (WHOLE.with_columns(f000=pl.Series([1.0, None, 3.0000002], dtype=pl.Float32)), "f000"),
        (WHOLE.with_columns(f000=pl.Series([1.0, 0.0, 3.0], dtype=pl.Float32)), "f000"),
        (WHOLE.with_columns(key=pl.Series([5, 6, 8])), "key"),
        (WHOLE.head(2), "entity rows"),
        (WHOLE.drop("f000"), "columns are missing: f000"),
    ],
)
def test_a_difference_is_named(compared, unequal, other, told):
    """A bit, a null, an own column, a row, a column."""
    with pytest.raises(unequal, match=told):
        compared(WHOLE, other)
