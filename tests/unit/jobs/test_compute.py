"""From source rows to a view's rows: ties, nulls, filters and known-at, over real Parquet."""

import itertools
import random
import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from featurestore.errors import SourceError
from featurestore.jobs.compute import closed, feature_rows
from featurestore.model.time import (
    BEGINNING,
    CREATED,
    EVENT,
    KNOWN,
    MOMENT,
    Interval,
    micros,
    normalize_schema,
)
from featurestore.storage.pushed import Roots
from featurestore.storage.unique import canonical
from tests.declared import source, view

ALL = Interval(start=BEGINNING, end=253_402_300_799_999_999)
T0 = datetime(2024, 3, 1, tzinfo=UTC)
SCHEMA = {
    "plane": pl.String(),
    "at": MOMENT,
    "loaded": MOMENT,
    "delay": pl.Float64(),
    "seats": pl.UInt8(),
}


def at(hours):
    """Give a moment some hours after the first; None is none."""
    return None if hours is None else T0 + timedelta(hours=hours)


def landings(*rows):
    """Build source rows of (plane, event hours, created hours, delay, seats)."""
    told = [(plane, at(event), at(created), *rest) for plane, event, created, *rest in rows]
    return pl.DataFrame(told, schema=SCHEMA, orient="row")


def history(created="loaded", **changes):
    """Declare a view of landings."""
    described = source(columns=normalize_schema(SCHEMA), created_field=created)
    return view(**{"source": described} | changes)


def computed(root, frame, made=None, interval=ALL):
    """Compute a view's rows from a file of this frame."""
    (root / "data").mkdir(exist_ok=True)
    frame.write_parquet(root / "data" / "landings.parquet")
    return feature_rows(made or history(), Roots(repo=root), interval)


def test_rows_have_keys_times_and_features_in_order(tmp_path):
    """Whatever the source's order, rows stand by key, event and created time."""
    frame = landings(("b", 1, 5, 1.0, 1), ("a", 2, None, 2.0, 2), ("a", 1, 9, 3.0, 3))
    rows = computed(tmp_path, frame)
    assert rows.columns == ["plane", EVENT, CREATED, KNOWN, "last_delay", "seats"]
    assert rows.select("plane", EVENT, KNOWN, "last_delay").rows() == [
        ("a", at(1), at(9), 3.0),
        ("a", at(2), at(2), 2.0),
        ("b", at(1), at(5), 1.0),
    ]


TIED = [
    *[("a", 1, 2, delay, seats) for delay in (0.0, -0.0, 1.5, -1.5, float("nan"), None)
      for seats in (0, 255, None)],
    *[("a", 1, None, float(n), n) for n in range(5)],
    *[("b", 1, 2, float(n), None) for n in range(5)],
    ("c", 1, 2, 1.0, 1),
]  # fmt: skip


def test_ties_have_one_winner_under_any_order_of_the_source(tmp_path):
    """Of rows equal in key and both times one stays: the same of 100 shuffles, to the bit."""
    shuffle = random.Random(5)
    first = computed(tmp_path, landings(*TIED))
    assert first.select("plane", CREATED).rows() == [
        ("a", None),
        ("a", at(2)),
        ("b", at(2)),
        ("c", at(2)),
    ]
    expected = canonical(history(), first).to_list()
    for _ in range(100):
        mixed = shuffle.sample(TIED, len(TIED))
        again = computed(tmp_path, landings(*mixed))
        assert canonical(history(), again).to_list() == expected


def test_equal_rows_are_one(tmp_path):
    """A source that tells a row twice tells it once."""
    frame = landings(*[("a", 1, 2, 1.0, 1)] * 3)
    assert computed(tmp_path, frame).height == 1


def test_the_same_winner_whatever_columns_the_source_has(tmp_path):
    """A tie is broken by what the view keeps, not by an unread column."""
    frame = landings(("a", 1, 2, 1.0, 1), ("a", 1, 2, 2.0, 2))
    noisy = frame.with_columns(noise=pl.Series([9, 1]))
    assert computed(tmp_path, noisy).equals(computed(tmp_path, frame))


def test_rows_with_a_null_key_are_left_out(tmp_path):
    """A null key matches nothing, so its row answers no question; null features stay."""
    frame = landings((None, 1, None, 1.0, 1), ("a", 1, None, None, None))
    rows = computed(tmp_path, frame)
    assert rows.select("plane", "last_delay", "seats").rows() == [("a", None, None)]
    two = history(join_keys={"plane": None, "seats": None}, features={"d": pl.col("delay")})
    assert computed(tmp_path, frame, two).height == 0


def test_a_view_without_entities_keeps_rows_of_nulls(tmp_path):
    """No keys means no null keys: every row stays, null features too."""
    frame = landings((None, 1, None, None, None), (None, 2, None, 1.0, 1))
    city = history(join_keys={})
    rows = computed(tmp_path, frame, city)
    assert rows["last_delay"].to_list() == [None, 1.0]


def test_a_filter_keeps_what_is_true(tmp_path):
    """Null is not true: a row whose filter is null goes like one whose filter is false."""
    frame = landings(("a", 1, None, 20.0, 1), ("b", 1, None, 10.0, 1), ("c", 1, None, None, 1))
    late = history(filter=pl.col("delay") > 15)
    assert computed(tmp_path, frame, late)["plane"].to_list() == ["a"]
    not_late = history(filter=~(pl.col("delay") > 15))
    assert computed(tmp_path, frame, not_late)["plane"].to_list() == ["b"]


def test_a_filter_judges_before_ties_are_broken(tmp_path):
    """A row that the filter drops never wins a tie."""
    frame = landings(("a", 1, 2, 1.0, 1), ("a", 1, 2, 99.0, 1))
    kept = computed(tmp_path, frame, history(filter=pl.col("delay") < 50))
    assert kept["last_delay"].to_list() == [1.0]


def test_a_row_without_a_time_is_an_error_unless_filtered(tmp_path):
    """A null event time is named with its column and both ways out."""
    frame = landings(("a", None, 3, 1.0, 1), ("b", 1, None, 2.0, 2))
    message = (
        "history.source: 1 rows have no 'at'; drop them in the source or with "
        "filter=pl.col('at').is_not_null()"
    )
    with pytest.raises(SourceError, match=re.escape(message)):
        computed(tmp_path, frame)
    timed = history(filter=pl.col("at").is_not_null())
    assert computed(tmp_path, frame, timed)["plane"].to_list() == ["b"]


HOUR = timedelta(hours=1)
KNOWN_AT = {
    "created counts": ({}, [at(9), at(5), at(6)]),
    "created does not count": ({"known_at": "event"}, [at(1), at(5), at(6)]),
    "with a delay": ({"delay": 2 * HOUR}, [at(9), at(7), at(8)]),
    "a delay beyond created": ({"delay": 12 * HOUR}, [at(13), at(17), at(18)]),
    "a delay and no created": ({"known_at": "event", "delay": HOUR}, [at(2), at(6), at(7)]),
    "no created column": ({"created": None}, [at(1), at(5), at(6)]),
}


@pytest.mark.parametrize(("edit", "known"), KNOWN_AT.values(), ids=KNOWN_AT.keys())
def test_known_at_follows_the_views_rules(tmp_path, edit, known):
    """Late, null and early created times, with and without a delay."""
    frame = landings(("a", 1, 9, 1.0, 1), ("b", 5, None, 2.0, 2), ("c", 6, 2, 3.0, 3))
    rows = computed(tmp_path, frame, history(**edit))
    assert rows[KNOWN].to_list() == known
    assert rows[EVENT].to_list() == [at(1), at(5), at(6)]


def test_the_created_time_is_kept_even_where_it_does_not_count(tmp_path):
    """`known_at="event"` changes when a row is known, not which row is newest."""
    frame = landings(("a", 1, 9, 1.0, 1), ("a", 1, 8, 2.0, 2))
    rows = computed(tmp_path, frame, history(known_at="event"))
    assert rows[CREATED].to_list() == [at(8), at(9)]


def test_intervals_split_rows_without_loss(tmp_path):
    """Computing interval by interval gives the rows of computing all, each once."""
    frame = landings(*[(str(n % 3), n, n + n % 5, float(n), n) for n in range(20)])
    edges = [BEGINNING, *(micros(at(h)) for h in (3, 4, 11)), ALL.end]
    parts = [
        computed(tmp_path, frame, interval=Interval(start=start, end=end))
        for start, end in itertools.pairwise(edges)
    ]
    whole = computed(tmp_path, frame)
    assert pl.concat(parts).sort("plane", EVENT, CREATED).equals(whole)


def test_a_closed_interval_holds_both_ends():
    """`materialize START END` covers the rows at START and at END."""
    assert closed(5, 9) == Interval(start=4, end=9)


def test_a_source_whose_dtype_moved_is_refused(tmp_path):
    """A column that became text is named, never cast in silence."""
    drifted = landings(("a", 1, 2, 1.0, 1)).with_columns(pl.col("delay").cast(pl.String))
    with pytest.raises(
        SourceError, match=r"history.source: column 'delay' .* is String, and was float64"
    ):
        computed(tmp_path, drifted)


def test_no_rows_are_no_error(tmp_path):
    """An empty source gives an empty frame with all columns and dtypes."""
    rows = computed(tmp_path, landings())
    assert rows.height == 0
    assert rows.schema["seats"] == pl.UInt8
    assert canonical(history(), rows).to_list() == []


def test_canonical_bytes_tell_rows_apart_and_nothing_else(tmp_path):
    """Equal rows have equal bytes; a null, a NaN, a signed zero and a later time do not."""
    frame = landings(
        *[(str(n), 1, 2, delay, 1) for n, delay in enumerate((0.0, -0.0, None, float("nan")))],
        *[("x", 2, 2, 0.0, 1), ("y", 1, 3, 0.0, 1), ("z", 1, 2, 0.0, None), ("=", 1, 2, 0.0, 1)],
    )
    rows = computed(tmp_path, frame)
    assert len(set(canonical(history(), rows).to_list())) == rows.height - 1
