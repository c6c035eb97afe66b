"""How two versions' rows differ: tables of (before, after)."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from featurestore.jobs.proof.difference import (
    Difference,
    Example,
    Spread,
    differences,
    entities,
    unequal,
)
from featurestore.model.time import CREATED, EVENT, MOMENT, micros
from featurestore.model.windows import NUMBER
from tests.declared import view

AT = datetime(2024, 3, 1, tzinfo=UTC)
DELAY = pl.col("delay")
OLD = view(features={"value": DELAY, "seats": pl.col("seats")})
NEW = view(features={"value": DELAY * 1, "seats": pl.col("seats"), "late": DELAY > 15})


def rows(*values, planes=None, feature="value", dtype=pl.Float64):
    """Give rows of a plane each with one feature."""
    names = planes or [str(number) for number in range(len(values))]
    return pl.DataFrame(
        {"plane": names, EVENT: [AT] * len(values), CREATED: [None] * len(values), feature: values},
        schema={"plane": pl.String, EVENT: MOMENT, CREATED: MOMENT, feature: dtype},
    )


NAN = float("nan")
VALUES = {
    "equal": ([1.0, 2.0], [1.0, 2.0], 0),
    "one moved": ([1.0, 2.0], [1.0, 3.0], 1),
    "the last bit": ([0.1 + 0.2], [0.3], 1),
    "the sign of zero": ([0.0], [-0.0], 1),
    "NaN is NaN": ([NAN], [NAN], 0),
    "null is null": ([None], [None], 0),
    "null came": ([1.0], [None], 1),
    "NaN for null": ([None], [NAN], 1),
}


@pytest.mark.parametrize(("before", "after", "changed"), VALUES.values(), ids=VALUES.keys())
def test_values_differ_if_their_bits_do(before, after, changed):
    """NaN equals NaN and null equals null; the signs of zero differ."""
    found = differences(OLD, NEW, rows(*before), rows(*after), ["value"])
    assert found.features[0].changed == changed
    assert found.none == (changed == 0)


def test_a_difference_tells_nulls_ranges_and_examples():
    """Ranges leave NaN out; examples name the entity and its event time."""
    before, after = rows(1.0, None, 3.0, NAN), rows(1.0, 5.0, None, NAN)
    (found,) = differences(OLD, NEW, before, after, ["value"]).features
    assert found == Difference(
        feature="value",
        changed=2,
        before=Spread(nulls=0.25, low=1.0, high=3.0),
        after=Spread(nulls=0.25, low=1.0, high=5.0),
        examples=(
            Example(entity=("1",), event=micros(AT), before=None, after=5.0),
            Example(entity=("2",), event=micros(AT), before=3.0, after=None),
        ),
    )


def test_rows_of_one_version_only_are_counted():
    """A filter that changes takes rows away or brings some."""
    before = rows(1.0, 2.0, 3.0, planes=["a", "b", "c"])
    after = rows(3.0, 4.0, planes=["c", "d"])
    found = differences(OLD, NEW, before, after, ["value"])
    assert (found.rows, found.gone, found.came, found.none) == (1, 2, 1, False)
    assert found.features[0].changed == 0


def test_a_new_feature_is_described_only():
    """There is nothing to compare it with."""
    after = rows(True, False, None, feature="late", dtype=pl.Boolean)
    (found,) = differences(OLD, NEW, rows(1.0, 2.0, 3.0), after_with(after), ["late"]).features
    assert (found.before, found.changed) == (None, None)
    assert found.after == Spread(nulls=1 / 3)


def after_with(frame):
    """Add the other features of the new version."""
    return frame.with_columns(
        pl.lit(None, pl.Float64).alias("value"), pl.lit(None, pl.UInt8).alias("seats")
    )


def test_no_rows_prove_nothing():
    """Over no rows nothing differs, and nothing is known."""
    assert not differences(OLD, NEW, rows(), rows(), ["value"]).none


def test_lists_are_compared_and_have_no_range():
    """A value of any dtype is compared by its stored bytes."""
    old = view(features={"value": pl.concat_list("delay", "delay")})
    new = view(features={"value": pl.concat_list("delay", DELAY + 0)})
    dtype = pl.List(pl.Float64)
    before, after = rows([1.0], [NAN], dtype=dtype), rows([1.0, 2.0], [NAN], dtype=dtype)
    (found,) = differences(old, new, before, after, ["value"]).features
    assert found.changed == 1
    assert found.after == Spread(nulls=0.0)


def test_other_keys_cannot_be_compared():
    """Rows of other entities are other rows."""
    new = view(join_keys={"flight": "int64"}, features={"value": DELAY})
    after = rows(1.0).rename({"plane": "flight"}).cast({"flight": pl.Int64})
    found = differences(OLD, new, rows(1.0, 2.0), after, ["value"])
    assert (found.rows, found.gone, found.came) == (0, 2, 1)


WRITTEN = {
    "a float, to its last bit": (pl.Float64(), 0.1 + 0.2, 0.3, "0.30000000000000004", "0.3"),
    "the sign of zero": (pl.Float64(), 0.0, -0.0, "0.0", "-0.0"),
    "nothing": (pl.Int64(), None, 1, "null", "1"),
    "text": (pl.String(), "null", None, "'null'", "null"),
    "a truth": (pl.Boolean(), True, False, "True", "False"),
    "a moment": (MOMENT, AT, None, "2024-03-01 00:00:00 UTC", "null"),
    "a day": (pl.Date(), date(2024, 3, 1), None, "2024-03-01", "null"),
    "a list": (pl.List(pl.Int64()), [1, None], [], "[1, None]", "[]"),
}


@pytest.mark.parametrize(
    ("dtype", "expected", "found", "left", "right"), WRITTEN.values(), ids=WRITTEN
)
def test_values_that_differ_are_written_for_people(dtype, expected, found, left, right):
    """Moments and days read as everywhere; of the rest no two that differ read alike."""
    before, after = (rows(one, dtype=dtype) for one in (expected, found))
    told = unequal(
        before, after, features=["value"], keys=["plane"], check="law", versions=["history@1"]
    )
    assert told.rows() == [("law", "history@1", "plane='0'", "value", left, right)]


def test_an_entity_is_named_in_words():
    """Times are moments, and no column of the store's own shows."""
    frame = rows(1.0).with_columns(pl.lit(7).alias(NUMBER))
    (told,) = entities(frame, ["plane", EVENT, CREATED, NUMBER])
    assert told == (
        "plane='0', event_timestamp=2024-03-01 00:00:00 UTC, created_timestamp=null, event number=7"
    )
    assert entities(frame, []).to_list() == ["-"]
    assert entities(frame.clear(), ["plane"]).to_list() == []
