"""Laws of moments and intervals, at every year the calendar has."""

import itertools
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import InvalidRequest
from featurestore.model.time import (
    BEGINNING,
    MOMENT,
    Interval,
    gaps,
    inside,
    known_at,
    micros,
    moment,
    normal_dtype,
    normalize_schema,
    show,
    to_moment,
    union,
    watermark,
)
from tests.declared import columns

FIRST = -62_135_596_800_000_000
LAST = 253_402_300_799_999_999
MOMENTS = {
    "1970": (datetime(1970, 1, 1, tzinfo=UTC), 0),
    "before 1970": (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
    "year 1": (datetime(1, 1, 1, tzinfo=UTC), FIRST),
    "year 9999": (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), LAST),
    "naive": (datetime(2013, 1, 1), 1_356_998_400_000_000),  # noqa: DTZ001
    "another zone": (
        datetime(2013, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        1_356_998_400_000_000,
    ),
}
INTERVALS = st.tuples(st.integers(-50, 50), st.integers(1, 20)).map(
    lambda pair: Interval(start=pair[0], end=pair[0] + pair[1])
)


@pytest.mark.parametrize("text", ["2013-09-01", date(2013, 9, 1), 0])
def test_what_is_no_datetime_is_no_moment(text):
    """Text is not parsed and a date has no hour: the error says what to pass."""
    with pytest.raises(InvalidRequest, match="is no moment; pass a datetime"):
        micros(text)


@pytest.mark.parametrize(("at", "us"), MOMENTS.values(), ids=MOMENTS.keys())
def test_a_moment_is_microseconds_since_1970(at, us):
    """Datetimes and microseconds are the same moments, exact at both ends of the calendar."""
    assert micros(at) == us
    assert moment(us) == (at if at.tzinfo else at.replace(tzinfo=UTC))


@given(st.integers(FIRST, LAST))
def test_every_microsecond_survives_the_round_trip(us):
    """No microsecond of the calendar is lost to a float."""
    assert micros(moment(us)) == us


SHOWN = {
    None: "never",
    BEGINNING: "the beginning",
    BEGINNING - 1: "the beginning",
    FIRST - 1: "before the year 1",
    LAST + 1: "after the year 9999",
    0: "1970-01-01 00:00:00 UTC",
    -1: "1969-12-31 23:59:59.999999 UTC",
    FIRST: "0001-01-01 00:00:00 UTC",
}


@pytest.mark.parametrize(("us", "text"), SHOWN.items())
def test_any_moment_can_be_shown(us, text):
    """People read moments as ISO 8601, and words where a calendar has none."""
    assert show(us) == text


def within(us, interval):
    """Say, one moment at a time, whether it lies in an interval."""
    return interval.start < us <= interval.end


@given(st.lists(INTERVALS, max_size=8))
def test_a_union_holds_the_same_moments(intervals):
    """Merging keeps every moment, adds none, and gives sorted intervals that do not touch."""
    merged = union(intervals)
    for us in range(-52, 72):
        assert any(within(us, one) for one in merged) == any(within(us, one) for one in intervals)
    assert all(a.end < b.start for a, b in itertools.pairwise(merged))
    assert watermark(intervals) == (max(i.end for i in intervals) if intervals else None)


@given(INTERVALS, INTERVALS)
def test_covers_and_meets_are_about_moments(one, other):
    """`covers` is all of the other's moments, `meets` any of them."""
    moments = [us for us in range(-52, 72) if within(us, other)]
    assert one.covers(other) == all(within(us, one) for us in moments)
    assert one.meets(other) == any(within(us, one) for us in moments)


def test_touching_intervals_merge():
    """The end of one interval is not in the next, so nothing lies between them."""
    assert union([Interval(start=5, end=9), Interval(start=1, end=5)]) == (
        Interval(start=1, end=9),
    )
    assert not Interval(start=1, end=5).meets(Interval(start=5, end=9))


@pytest.mark.parametrize("edge", [FIRST - 1, FIRST, -1, 0, 1_356_998_400_000_001, LAST, LAST + 7])
def test_inside_is_exact_to_the_microsecond(edge):
    """A column's moments are compared as integers: the edge is in, its neighbour is not."""
    frame = pl.DataFrame({"t": [edge - 1, edge, edge + 1, None]}).cast(MOMENT)
    upper = frame.filter(inside(pl.col("t"), Interval(start=BEGINNING, end=edge)))
    assert upper["t"].to_physical().to_list() == [edge - 1, edge]
    both = frame.filter(inside(pl.col("t"), Interval(start=edge - 1, end=edge)))
    assert both["t"].to_physical().to_list() == [edge]


def naive(text, unit="us"):
    """Give a frame of one naive datetime."""
    return pl.DataFrame({"t": [text]}).select(
        pl.col("t").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=unit)
    )


def coerced(frame, zone=None):
    """Give the moments of a frame's one column."""
    found = frame.select(to_moment(pl.col("t"), frame.schema["t"], zone)).to_series()
    assert found.dtype == MOMENT
    return found.to_list()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize(
    ("zone", "hour"), [(None, 12), ("UTC", 12), ("Europe/Berlin", 10), ("America/New_York", 16)]
)
def test_naive_times_are_local_times_of_the_zone(unit, zone, hour):
    """Whatever the unit, a naive time is local; without a zone it is UTC."""
    assert coerced(naive("2013-07-01 12:00:00", unit), zone) == [
        datetime(2013, 7, 1, hour, tzinfo=UTC)
    ]


def test_aware_times_keep_their_moment_whatever_the_views_zone():
    """The zone is for naive times: an aware column already says which moment it is."""
    frame = naive("2013-07-01 12:00:00").with_columns(
        pl.col("t").dt.replace_time_zone("Asia/Tokyo")
    )
    assert coerced(frame, "Europe/Berlin") == [datetime(2013, 7, 1, 3, tzinfo=UTC)]


def test_a_date_is_its_midnight():
    """A Date is the first moment of the day in the view's zone."""
    frame = pl.DataFrame({"t": ["2013-07-01", "1969-12-31", None]}).select(
        pl.col("t").str.to_date("%Y-%m-%d")
    )
    assert coerced(frame) == [
        datetime(2013, 7, 1, tzinfo=UTC),
        datetime(1969, 12, 31, tzinfo=UTC),
        None,
    ]
    assert coerced(frame.head(1), "Europe/Berlin") == [datetime(2013, 6, 30, 22, tzinfo=UTC)]


@pytest.mark.parametrize("us", [-1, -1001, 1])
def test_nanoseconds_are_cut_to_the_microsecond_before(us):
    """Finer times are floored on both sides of 1970, so their order is kept."""
    frame = pl.DataFrame({"t": [us]}).cast(pl.Datetime("ns"))
    assert micros(coerced(frame)[0]) == us // 1000


@pytest.mark.parametrize("hour", ["2026-03-29 02:30:00", "2026-10-25 02:30:00"])
def test_an_hour_that_a_clock_change_skips_or_repeats_is_refused(hour):
    """A local time that has no single moment raises; UTC would have told."""
    with pytest.raises(pl.exceptions.ComputeError, match=r"ambiguous|non-existent"):
        coerced(naive(hour), "Europe/Berlin")
    assert coerced(naive(hour))


KNOWN = {
    "event alone": (5, None, 0, False, 5),
    "later created": (5, 9, 0, True, 9),
    "earlier created": (5, 3, 0, True, 5),
    "null created": (5, None, 0, True, 5),
    "delay alone": (5, None, 10, False, 15),
    "delay beyond created": (5, 9, 10, True, 15),
    "created beyond delay": (5, 99, 10, True, 99),
    "a delay of centuries": (0, None, 300 * 365 * 86_400_000_000, False, 9_460_800_000_000_000),
}


@pytest.mark.parametrize(
    ("event", "created", "delay", "counts", "known"), KNOWN.values(), ids=KNOWN.keys()
)
def test_known_at_is_the_later_of_event_plus_delay_and_created(
    event, created, delay, counts, known
):
    """A null created time says nothing; one that does not count is not looked at."""
    frame = pl.DataFrame({"e": [event], "c": [created]}, schema={"e": MOMENT, "c": MOMENT})
    found = frame.select(known_at(pl.col("e"), pl.col("c") if counts else None, delay))
    assert found.to_series().to_physical().to_list() == [known]


def test_a_schema_is_renamed_and_coerced_once():
    """Times become UTC microseconds, categories strings; what has no name here is left out."""
    schema = {
        "t": pl.Datetime("ns", "Asia/Tokyo"),
        "n": pl.Datetime("ms"),
        "c": pl.Categorical(),
        "e": pl.Enum(["a"]),
        "x": pl.Float32(),
        "s": pl.Struct({"a": pl.Int8}),
        "o": pl.Duration("us"),
        "l": pl.List(pl.String()),
    }
    assert normalize_schema(schema, [("x", "speed"), ("gone", "y")]) == columns(
        t="datetime", n="datetime", c="string", e="string", speed="float32"
    )


def test_only_times_and_categories_are_coerced():
    """Every other dtype comes in as it is."""
    assert normal_dtype(pl.Date()) == pl.Date()
    assert normal_dtype(pl.UInt16()) == pl.UInt16()


@pytest.mark.parametrize(
    ("covered", "missing"),
    [
        ([], [(10, 20)]),
        ([(10, 20)], []),
        ([(0, 30)], []),
        ([(BEGINNING, 2**63 - 1)], []),
        ([(0, 10), (20, 30)], [(10, 20)]),
        ([(12, 14)], [(10, 12), (14, 20)]),
        ([(16, 30), (0, 12)], [(12, 16)]),
        ([(0, 15), (15, 30)], []),
        ([(10, 19)], [(19, 20)]),
        ([(11, 20)], [(10, 11)]),
    ],
)
def test_gaps_are_what_no_interval_holds(covered, missing):
    """Intervals are half-open; touching ones leave no gap."""
    assert gaps(
        Interval(start=10, end=20), [Interval(start=a, end=b) for a, b in covered]
    ) == tuple(Interval(start=a, end=b) for a, b in missing)
