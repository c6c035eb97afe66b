"""Which pushed rows are taken: a table of bad input, each refused by row with its reason."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from featurestore.engine.accept import accept
from featurestore.model.declare.windows import Aggregate
from featurestore.model.pushes import REFUSALS
from featurestore.model.time import micros, normalize_schema
from tests.declared import source, view

T0 = datetime(2024, 3, 1, tzinfo=UTC)
NAIVE = T0.replace(tzinfo=None)
MINUTE = timedelta(minutes=1)
SCHEMA = {
    "plane": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "loaded": pl.Datetime("us", "UTC"),
    "flight": pl.Int64(),
    "seats": pl.UInt8(),
    "load": pl.Float32(),
    "delay": pl.Float64(),
    "late": pl.Boolean(),
    "day": pl.Date(),
    "shape": pl.Array(pl.Float32(), 2),
    "parts": pl.List(pl.Int16()),
    "spare": pl.String(),
}
READ = ("flight", "seats", "load", "delay", "late", "day", "shape", "parts")
SEEN = Aggregate(function="count", of=None, filter=None, length="7d", every=None)


def landings(name="history", features=None, **changes):
    """Declare a view that reads every column but one."""
    described = {"columns": normalize_schema(SCHEMA), "pushed": True}
    of = {key: changes.pop(key) for key in ("time_zone", "created_field") if key in changes}
    features = features or {name: pl.col(name) for name in READ}
    return view(name, source=source(**described, **of), features=features, **changes)


def good(rows=1, **changes):
    """Give so many good rows, with some columns changed."""
    frame = pl.DataFrame(
        [("a", T0, None, 1, 2, 0.5, 0.1, True, T0.date(), [1.0, None], [3, None], "s")] * rows,
        schema=SCHEMA,
        orient="row",
    )
    return frame.with_columns(pl.Series(values).alias(name) for name, values in changes.items())


def judged(frame, *views, **settings):
    """Judge rows at the tests' first moment."""
    return accept(frame, views or (landings(),), **{"now": micros(T0), "most": 100} | settings)


def test_good_rows_come_back_as_their_source_has_them():
    """Nothing is refused, no value and no dtype changes; what no source has is not looked at."""
    frame = good(3)
    found = judged(frame.with_columns(other=pl.lit(1)).select(reversed([*frame.columns, "other"])))
    assert_frame_equal(found.rows, frame)
    assert found.refused.schema == REFUSALS
    assert found.refused.is_empty()
    assert found.places.to_list() == [0, 1, 2]


FITS = {
    "whole floats": ("flight", [1.0, None], [1, None]),
    "narrower whole numbers": ("flight", pl.Series([7, None], dtype=pl.UInt8), [7, None]),
    "wider whole numbers": ("seats", pl.Series([255, None], dtype=pl.Int64), [255, None]),
    "floats that round": ("load", [0.1, float("nan")], [0.10000000149011612, float("nan")]),
    "whole numbers for floats": ("delay", [2**53, None], [float(2**53), None]),
    "categories": ("plane", pl.Series(["x", "y"], dtype=pl.Categorical), ["x", "y"]),
    "lists of a width": ("shape", [[1, 2], None], [[1.0, 2.0], None]),
    "lists of narrower numbers": ("parts", [[1.0], []], [[1], []]),
    "nothing at all": ("late", pl.Series([None, None]), [None, None]),
    "nothing at all, of lists": ("shape", pl.Series([None, None]), [None, None]),
    "a local time": ("at", [NAIVE, NAIVE], [T0, T0]),
    "another zone": ("at", pl.Series([T0, T0]).dt.convert_time_zone("Asia/Kolkata"), [T0, T0]),
    "milliseconds": ("at", pl.Series([T0, T0]).dt.cast_time_unit("ms"), [T0, T0]),
    "days": ("at", [date(2024, 3, 1), date(2024, 2, 1)], [T0, datetime(2024, 2, 1, tzinfo=UTC)]),
}


@pytest.mark.parametrize(("column", "given", "expected"), FITS.values(), ids=FITS.keys())
def test_values_that_fit_are_taken(column, given, expected):
    """Numbers convert where no value changes, times become UTC microseconds."""
    found = judged(good(2, **{column: given}))
    assert found.refused.is_empty()
    assert found.rows.schema == pl.Schema(SCHEMA)
    values = found.rows[column].to_list()
    assert values == expected or repr(values) == repr(expected)


BAD = {
    "a text for a number": ("flight", ["1", None], [0], "is String, and does not fit int64"),
    "a fraction": ("flight", [1.5, 2.0], [0], "is Float64, and does not fit int64"),
    "NaN for a whole number": ("flight", [float("nan"), 2.0], [0], "does not fit int64"),
    "too large": ("seats", [256, 255], [0], "is Int64, and does not fit uint8"),
    "negative": ("seats", [3, -1], [1], "does not fit uint8"),
    "too large for a float": ("delay", [2**53 + 1, 1], [0], "is Int64, and does not fit float64"),
    "a number for a text": ("plane", [1, 2], [0, 1], "is Int64, and does not fit string"),
    "a number for a truth": ("late", [1, None], [0], "is Int64, and does not fit bool"),
    "a text for a moment": ("at", ["2024", None], [0], "is String, and does not fit datetime"),
    "a number for a moment": ("at", [1, 2], [0, 1], "is Int64, and does not fit datetime"),
    "a moment for a day": ("day", [T0, None], [0], "does not fit date"),
    "a moment of no year": (
        "at",
        pl.Series([2**62, 0]).cast(pl.Datetime("ms", "UTC")),
        [0],
        "outside the years 1 to 9999",
    ),
    "too short": ("shape", [[1.0], [1.0, 2.0]], [0], r"is List\(Float64\), and does not fit array"),
    "an element too large": ("parts", [[1, 40_000], [5]], [0], "does not fit list"),
    "a fraction in a list": ("parts", [[1.5], [5.0]], [0], "does not fit list"),
    "a null key": ("plane", [None, "b"], [0], "is null: a row of view 'history'"),
    "no time": ("at", [T0, None], [1], "is null: nobody knows when it happened"),
    "the far future": ("at", [T0, T0 + 11 * MINUTE], [1], "more than 10 minutes in the future"),
}


@pytest.mark.parametrize(("column", "given", "rows", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_row_and_the_good_rows_are_kept(column, given, rows, reason):
    """Each refusal names the row, the column and why; the others are taken."""
    found = judged(good(2, **{column: given}))
    told = found.refused.filter(pl.col("reason").str.contains(reason))
    assert told["row"].to_list() == rows
    assert told["at"].unique().to_list() == [column]
    nulls = found.refused.filter(~pl.col("reason").str.contains(reason))
    assert set(nulls["row"]).isdisjoint(rows)
    kept = [n for n in range(2) if n not in found.refused["row"]]
    assert found.places.to_list() == kept
    assert found.rows.height == len(kept)
    assert found.refused_rows == 2 - len(kept)


def test_a_row_may_be_refused_for_several_reasons():
    """Every reason is said at once, so that one correction is enough."""
    found = judged(good(3, plane=[None, "b", "c"], seats=[300, 3, -3]))
    assert [*found.refused.select("row", "at").iter_rows()] == [
        (0, "seats"),
        (0, "plane"),
        (2, "seats"),
    ]
    assert found.refused_rows == 2


def test_an_event_may_lie_a_little_ahead():
    """Clocks differ: the edge itself is taken, and the skew is the caller's to set."""
    frame = good(2, at=[T0 + 10 * MINUTE, T0 + 10 * MINUTE + timedelta(microseconds=1)])
    assert judged(frame).places.to_list() == [0]
    assert judged(frame, max_skew=0).places.to_list() == []
    assert judged(frame, max_skew=10**9).places.to_list() == [0, 1]


def test_rows_beyond_the_limit_are_refused():
    """An oversize batch keeps as many rows as a call takes, the first."""
    found = judged(good(5), most=3)
    assert found.places.to_list() == [0, 1, 2]
    assert found.refused["row"].to_list() == [3, 4]
    assert "beyond the 3 rows that a call takes" in found.refused["reason"][0]


def test_a_missing_column_refuses_every_row():
    """A column that a view needs must be there; one that none needs may be left out."""
    found = judged(good(2).rename({"delay": "dely"}).drop("spare"))
    assert found.rows.is_empty()
    assert found.refused["row"].to_list() == [0, 1]
    assert found.refused["at"].unique().to_list() == ["delay"]
    assert "view 'history' needs it; did you mean 'dely'?" in found.refused["reason"][0]
    kept = judged(good(2).drop("spare", "loaded"))
    assert kept.places.to_list() == [0, 1]
    assert "spare" not in kept.rows.columns
    fits_no_dtype = judged(good(2, spare=[1, 2]))
    assert fits_no_dtype.refused.is_empty()
    assert fits_no_dtype.rows["spare"].to_list() == [None, None]


def test_a_row_became_known_when_it_arrived():
    """Where the source has a created column and the row has none, the clock stamps it."""
    made = landings(created_field="loaded")
    early = T0 - MINUTE
    for frame in (good(2, loaded=[None, early]), good(2).drop("loaded")):
        found = judged(frame, made, now=micros(T0) + 5)
        stamped = T0 + timedelta(microseconds=5)
        kept = early if "loaded" in frame.columns else stamped
        assert found.rows["loaded"].to_list() == [stamped, kept]
        assert found.refused.is_empty()
    assert judged(good(2)).rows["loaded"].to_list() == [None, None]


def test_local_times_are_of_the_sources_zone():
    """Naive times are in the source's zone; what a clock change leaves no meaning is refused."""
    berlin = landings(time_zone="Europe/Berlin")
    texts = pl.Series(["2024-01-01 01:00", "2023-10-29 02:30", "2023-03-26 02:30"])
    local = texts.str.to_datetime()
    found = judged(good(3, at=local), berlin)
    assert found.rows["at"].to_list() == [datetime(2024, 1, 1, tzinfo=UTC)]
    told = found.refused.filter(pl.col("reason").str.contains("a clock change leaves no meaning"))
    assert told["row"].to_list() == [1, 2]
    assert found.refused.height == 2
    two = judged(good(3, at=local), berlin, landings("other"))
    assert two.rows.is_empty()
    assert "views of the source differ in time_zone" in two.refused["reason"][0]


def test_windows_without_an_event_id_take_nothing():
    """Such a view is refused as a whole, with the way out; the other views get the rows."""
    every = landings("counts", {"seen": SEEN})
    found = judged(good(2), landings(), every)
    assert found.places.to_list() == [0, 1]
    assert found.refused.rows()[0][:2] == (None, "counts")
    assert "add event_id" in found.refused["reason"][0]
    assert found.refused_rows == 0
    assert judged(good(2), every).rows.is_empty()


def test_windows_that_tell_events_apart_need_the_id():
    """A null id is refused where windows count by it, and only there."""
    frame = good(2, flight=[None, 2])
    by_id = landings("counts", {"seen": SEEN}, event_id="flight")
    found = judged(frame, by_id)
    assert found.places.to_list() == [1]
    assert found.refused.row(0)[:2] == (0, "flight")
    assert "windows of view 'counts' tell events apart by it" in found.refused["reason"][0]
    plain = landings("plain", {"delay": pl.col("delay")}, event_id="flight")
    assert judged(frame, plain).places.to_list() == [0, 1]


def test_columns_may_have_the_names_of_the_file():
    """A field mapping applies to pushed rows as it does to the file's."""
    mapped = source(
        columns=normalize_schema(SCHEMA), field_mapping=(("tail", "plane"),), pushed=True
    )
    made = view(source=mapped, features={"delay": pl.col("delay")})
    assert judged(good(2).rename({"plane": "tail"}), made).rows["plane"].to_list() == ["a", "a"]
    assert judged(good(2), made).places.to_list() == [0, 1]


NAMED = {
    "both": ((("tail", "plane"),), ["tail", "plane"], ("tail", "plane")),
    "the file's": ((("tail", "plane"),), ["tail"], None),
    "a chain, as in the file": ((("tail", "plane"), ("plane", "spare")), ["tail", "plane"], None),
    "a chain, in our words": ((("tail", "plane"), ("plane", "spare")), ["plane", "spare"], None),
    "a chain, both": (
        (("tail", "plane"), ("plane", "spare")),
        ["tail", "plane", "spare"],
        ("plane", "spare"),
    ),
}


@pytest.mark.parametrize(("mapping", "names", "twice"), NAMED.values(), ids=NAMED)
def test_a_column_comes_under_one_of_its_names(mapping, names, twice):
    """Under both nobody could say which one counts: every row is refused, with both names."""
    mapped = source(columns=normalize_schema(SCHEMA), field_mapping=mapping, pushed=True)
    made = view(source=mapped, features={"delay": pl.col("delay")})
    rows = good(2).drop("plane", "spare").with_columns(pl.lit(name).alias(name) for name in names)
    found = judged(rows, made)
    if twice is None:
        assert found.refused.is_empty()
        assert found.rows["plane"].to_list() == [names[0]] * 2
    else:
        old, new = twice
        assert (found.rows.height, found.refused_rows) == (0, 2)
        assert set(found.refused["at"]) == {old}
        told = f"the column came as '{new}' too, as expressions call it; push one of the two"
        assert set(found.refused["reason"]) == {told}


def test_no_rows_are_no_trouble():
    """An empty push is accepted, and says so."""
    found = judged(good(2).clear())
    assert (found.rows.height, found.refused.height) == (0, 0)
    assert found.rows.schema == pl.Schema(SCHEMA)


def test_a_row_without_the_key_of_one_view_joins_the_others():
    """As when its source is materialized; a row that no view has the keys of is refused."""
    planes = landings()
    delay = {"of_delay": pl.col("delay")}
    hours = landings("hours", delay, join_keys={"flight": "int64", "spare": "string"})
    rows = good(4, plane=["a", None, None, None], flight=[None, 1, None, 3], spare=[*"xyz", None])
    found = judged(rows, planes, hours)
    assert found.places.to_list() == [0, 1]
    assert found.refused.rows() == [
        (2, "plane", "is null: a row of view 'history' without it matches nothing"),
        (2, "flight", "is null: a row of view 'hours' without it matches nothing"),
        (3, "plane", "is null: a row of view 'history' without it matches nothing"),
        (3, "spare", "is null: a row of view 'hours' without it matches nothing"),
    ]
    assert judged(rows, planes, hours, landings("city", join_keys={})).refused.is_empty()
