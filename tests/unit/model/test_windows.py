"""Window features in the model: what a declaration may say, and what it is identified by."""

from datetime import timedelta

import polars as pl
import pytest

from featurestore.errors import InvalidDefinition, InvalidExpression
from featurestore.model.declare import Aggregate
from featurestore.model.documents import View as ViewDocument
from featurestore.model.documents import Window, dump, load
from featurestore.model.schema import Column
from featurestore.model.windows import (
    DAY,
    HOUR,
    MINUTE,
    NUMBER,
    age,
    described,
    every_of,
    input_name,
    numbered,
    output_of,
    row_identity,
    row_order,
    stored_columns,
    stored_names,
    tail,
)
from tests.declared import SCHEMA, columns, source, view

LATE = pl.col("delay") > 15


def aggregate(function="mean", of=LATE, kept=None, length="7d", every="1h"):
    """Describe a function over a window."""
    return Aggregate(function=function, of=of, filter=kept, length=length, every=every)


def windowed(*aggregates, **changes):
    """Describe a view of one row feature and of windows `w0`, `w1`, …."""
    made = {f"w{number}": one for number, one in enumerate(aggregates)}
    return view(features={"last_delay": pl.col("delay"), **made}, **changes)


@pytest.mark.parametrize(
    ("length", "every"),
    [
        (12 * DAY, DAY),
        (12 * DAY - 1, HOUR),
        (12 * HOUR, HOUR),
        (12 * HOUR - 1, 5 * MINUTE),
        (5 * MINUTE, 5 * MINUTE),
        (MINUTE, MINUTE),
    ],
)
def test_the_usual_every_follows_the_length(length, every):
    """A day from 12 days up, an hour from 12 hours up, else five minutes, at most the length."""
    assert every_of(length) == every


@pytest.mark.parametrize(
    ("moment", "length", "every", "first"),
    [(100, 30, 10, 70), (109, 30, 10, 70), (110, 30, 10, 80), (-1, 30, 10, -40), (5, 7, 7, -7)],
)
def test_a_tail_is_snapped_down_to_every(moment, length, every, first):
    """The tail is the greatest multiple of `every` at or before t - length, before 1970 too."""
    assert tail(moment, Window(function="sum", length=length, every=every, dtype="int8")) == first


@pytest.mark.parametrize(
    ("function", "dtype", "gives"),
    [
        ("count", "bool", "int64"),
        ("sum", "bool", "int64"),
        ("sum", "uint8", "int64"),
        ("sum", "float32", "float64"),
        ("mean", "bool", "float64"),
        ("std", "int64", "float64"),
        ("max", "float32", "float32"),
        ("min", "date", "date"),
        ("last", "datetime", "datetime"),
    ],
)
def test_a_function_gives_one_dtype(function, dtype, gives):
    """What a window gives follows from its function and its input."""
    assert output_of(function, dtype) == gives


def test_a_window_is_stored_as_its_input():
    """Equal inputs share a column; the window itself is stored nowhere."""
    found = windowed(aggregate(), aggregate("sum", length="1d"), aggregate("max", pl.col("delay")))
    late, same, delay = (input_name(one) for one in found.features[1:])
    assert late == same != delay
    columns = {late: "bool", delay: "float64"}
    assert stored_columns(found) == (
        Column(name="last_delay", dtype="float64"),
        *(Column(name=name, dtype=columns[name]) for name in sorted(columns)),
        Column(name=NUMBER, dtype="int64"),
    )
    assert stored_names(found, ["w1", "last_delay", "w0"]) == ("last_delay", late)


def test_only_windows_number_their_rows():
    """A view without windows is stored as it always was, event id or not."""
    plain = view(event_id="flight")
    assert not numbered(plain)
    assert NUMBER not in {*row_identity(plain), *row_order(plain)}
    assert row_order(windowed(aggregate()))[-1] == NUMBER
    assert numbered(windowed(aggregate(), event_id="flight"))


@pytest.mark.parametrize(
    "changes",
    [
        {"function": "sum"},
        {"length": "8d"},
        {"every": "2h"},
        {"every": None, "length": "30d"},
        {"of": pl.col("delay") > 16},
        {"kept": pl.col("seats") > 3},
    ],
)
def test_what_changes_a_window_changes_its_id(changes):
    """Function, length, every, input and filter are of a window's identity."""
    was, now = windowed(aggregate()), windowed(aggregate(**changes))
    assert was.features[1].id != now.features[1].id
    assert was.features[0].id == now.features[0].id
    assert was.data_id != now.data_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (aggregate(length="7d"), aggregate(length=timedelta(days=7))),
        (aggregate(length="1w"), aggregate(length="6d24h")),
        (aggregate(every="1h"), aggregate(every=None)),
        (aggregate(every="60m"), aggregate(every=timedelta(minutes=60))),
    ],
)
def test_spans_are_what_they_say(one, other):
    """However a span is written, equal spans make equal versions."""
    assert windowed(one).id == windowed(other).id


def test_an_event_id_is_of_the_identity():
    """Whether events are counted once or by row changes what windows give."""
    assert windowed(aggregate()).id != windowed(aggregate(), event_id="flight").id


def test_a_view_with_windows_is_read_back():
    """A document of windows survives its JSON."""
    found = windowed(aggregate(), aggregate("count", None))
    assert load(dump(found), ViewDocument) == found


def test_a_count_counts_rows_or_values():
    """`count()` counts rows, `count(x)` those where x is not null; only that it is, is stored."""
    found = windowed(aggregate("count", None), aggregate("count", pl.col("plane")))
    assert [one.window.dtype for one in found.features[1:]] == ["bool", "bool"]
    assert [one.name for one in found.features[2].reads] == ["plane"]


@pytest.mark.parametrize(
    ("made", "error", "told"),
    [
        (aggregate(length="7 days"), InvalidDefinition, "history.features.w0.length: '7 days'"),
        (aggregate(length="0d"), InvalidDefinition, "w0.length: 0d is too short"),
        (aggregate(length="٣d"), InvalidDefinition, "w0.length: '٣d' is no span"),
        (aggregate(length="1" * 5_000 + "d"), InvalidDefinition, "w0.length: '1111"),
        (aggregate(length=timedelta(days=-1)), InvalidDefinition, "w0.length: -1 day"),
        (aggregate(length=7), InvalidDefinition, "w0.length: 7 is no span"),
        (aggregate(length="99999999d"), InvalidDefinition, "ten thousand years"),
        (aggregate(every="8d"), InvalidDefinition, "w0.every: 8d is longer than the window"),
        (aggregate(of="delay"), InvalidDefinition, "w0.of: 'delay' is no Polars expression"),
        (aggregate(of=None), InvalidDefinition, "w0.of: is missing; say what to compute it of"),
        (aggregate(kept=True), InvalidDefinition, "w0.filter: True is no Polars expression"),
        (aggregate(of=pl.col("plane")), InvalidDefinition, "w0: mean takes bool, int8"),
        (aggregate("last", pl.col("plane")), InvalidDefinition, "w0: last takes"),
        (aggregate("sum", pl.col("at")), InvalidDefinition, "w0: sum takes"),
        (aggregate(of=pl.col("dely")), InvalidExpression, "did you mean 'delay'"),
        (aggregate(of=pl.col("delay").mean()), InvalidExpression, "history.features.w0: "),
        (aggregate(kept=pl.col("delay")), InvalidExpression, "w0.filter: gives Float64"),
        (aggregate(kept=pl.col("canceled")), InvalidExpression, "w0.filter: column 'canceled'"),
    ],
)
def test_a_wrong_window_is_refused(made, error, told):
    """What a window cannot be is refused by path, with the way out."""
    with pytest.raises(error, match=r"^history") as raised:
        windowed(made)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [("delay", "float64"), ("cancelled", "bool"), ("at", "datetime"), ("day", "date")],
)
def test_an_event_id_is_a_string_or_an_integer(column, dtype):
    """What cannot be taken for an id is refused with its dtype; strings and integers are taken."""
    of = source(columns=columns(**SCHEMA, day="date"))
    told = rf"history\.event_id: column '{column}' is {dtype}, and .* string or an integer"
    with pytest.raises(InvalidDefinition, match=told):
        windowed(aggregate(), source=of, event_id=column)
    for good in ("flight", "seats", "plane"):
        assert windowed(aggregate(), source=of, event_id=good).event_id == good


def test_a_window_outlives_no_row_but_by_its_reach():
    """Events count as long as windows reach, or the ttl where rows are asked for, or for ever."""
    found = windowed(aggregate(length="2d"), ttl=timedelta(days=1))
    reach = 2 * DAY + HOUR
    assert age(found, ["w0"]) == age(found, ["w0", "last_delay"]) == reach
    assert age(found, ["last_delay"]) == DAY
    assert age(windowed(aggregate()), ["last_delay", "w0"]) is None


def test_a_window_is_told_in_words():
    """What people read of a window names its function and spans."""
    found = windowed(aggregate("std", pl.col("delay"), every="90s"))
    assert described(found.features[1]) == "std over 7d every 90s"
