"""Values of windows, case by case; the law for any case is in tests/property/test_windows.py."""

import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from featurestore.engine.spans import NEVER, Events, prefix
from featurestore.engine.windows import Asked, window_values
from featurestore.model.documents import Window
from featurestore.model.schema import parse_dtype
from featurestore.model.time import micros
from featurestore.model.windows import DAY, TAKES, output_of

HOUR = 3_600_000_000


def integers(values) -> np.ndarray:
    return np.array(values, np.int64)


def events(*event: list[int], known=None, gone=None) -> Events:
    """Give events of some keys, known as they happen unless it is said when."""
    flat = integers([moment for of_key in event for moment in of_key])
    return Events(
        starts=prefix(integers([len(of_key) for of_key in event])),
        event=flat,
        known=flat if known is None else integers(known),
        gone=None if gone is None else integers(gone),
    )


def ask(part, questions, values, dtype, function="sum", length=10, every=1):
    """Give a window's values for (key, moment) questions."""
    window = Window(function=function, length=length, every=every, dtype=dtype)
    column = pl.Series("x", values, parse_dtype(dtype))
    key, at = (integers([question[n] for question in questions]) for n in (0, 1))
    asked = [Asked(window=window, input="x", name="f")]
    (found,) = window_values(part, key, at, asked, column.to_frame().select)
    assert found.name == "f"
    assert found.dtype == parse_dtype(output_of(function, dtype))
    return found.to_list()


@pytest.mark.parametrize("origin", [0, -1_000_000, micros(datetime(2013, 1, 1, tzinfo=UTC))])
def test_the_head_is_exact_and_the_tail_is_snapped_down(origin):
    """A window of 10 by 4 at 13 begins at floor(3, 4) = 0 and ends at 13, both inclusive."""
    moments = [origin + moment for moment in (-1, 0, 12, 13, 14)]
    part = events(moments)
    found = ask(part, [(0, origin + 13)], [1, 10, 100, 1000, 10_000], "int64", every=4, length=10)
    assert found == [1110]


def test_a_window_over_new_year_does_not_see_it():
    """A day's window counts from the day before, into the old year and before 1970."""
    for year in (1969, 1970, 2014):
        midnight = micros(datetime(year, 1, 1, tzinfo=UTC))
        part = events([midnight - DAY, midnight - HOUR, midnight, midnight + HOUR])
        questions = [(0, midnight), (0, midnight + HOUR), (0, midnight + 2 * HOUR)]
        found = ask(part, questions, [1, 10, 100, 1000], "int64", length=DAY, every=HOUR)
        assert found == [111, 1110, 1110]


@pytest.mark.parametrize(("function", "nothing"), [("count", 0), ("sum", 0), ("mean", None)])
def test_no_event_no_key_and_no_input_answer_alike(function, nothing):
    """An empty window, an unknown key, a null input and an empty part: 0 for counts and sums."""
    dtype = "bool" if function == "count" else "int64"
    part, values = events([5], [7]), [True if function == "count" else 1, None]
    questions = [(-1, 5), (0, 4), (0, 16), (1, 7)]
    assert ask(part, questions, values, dtype, function) == [nothing] * 4
    assert ask(events([], []), questions, [], dtype, function) == [nothing] * 4
    assert ask(part, [], values, dtype, function) == []


@pytest.mark.parametrize("function", sorted(TAKES))
def test_every_function_takes_what_it_says(function):
    """Each dtype of inputs gives the declared dtype, also of no part and only of nulls."""
    for dtype in sorted(TAKES[function]):
        empty = 0 if function in ("count", "sum") else None
        assert ask(events([]), [(0, 1)], [], dtype, function) == [empty]
        assert ask(events([1, 1]), [(0, 1)], [None, None], dtype, function) == [empty]


def test_ends_and_extremes_keep_dates_and_truths():
    """First, last, min and max give the input's own values."""
    days = [date(1969, 12, 31), date(1, 1, 1), date(9999, 12, 31)]
    moments = [datetime(day.year, 1, 1, tzinfo=UTC) for day in days]
    cases = [("date", days), ("datetime", moments), ("bool", [True, False, True])]
    for dtype, values in cases:
        wants = {"first": values[0], "last": values[2], "min": min(values), "max": max(values)}
        for function, want in wants.items():
            assert ask(events([1, 2, 3]), [(0, 5)], values, dtype, function) == [want]


def test_first_and_last_go_by_the_order_of_events_not_by_when_they_are_known():
    """A late event is the last if it happened last; ties go by the order of rows; nulls pass."""
    part = events([1, 2, 2, 3], known=[9, 2, 4, 8])
    questions = [(0, 3), (0, 4), (0, 8), (0, 9)]
    values = ["1", "2", "3", None]
    numbers = [None if value is None else int(value) for value in values]
    assert ask(part, questions, numbers, "int8", "first") == [2, 2, 2, 1]
    assert ask(part, questions, numbers, "int8", "last") == [2, 3, 3, 3]


def test_a_corrected_event_counts_once_with_its_newest_time():
    """From the moment its correction is known the old version is gone, wherever the new one is."""
    part = events([1, 8, 20], known=[1, 8, 25], gone=[25, NEVER, NEVER])
    questions = [(0, 1), (0, 11), (0, 24), (0, 25)]
    assert ask(part, questions, [1, 10, 100], "int64", length=30) == [1, 11, 11, 110]
    assert ask(part, questions, [1, 10, 100], "int64", length=5) == [1, 10, 0, 100]


def test_a_version_that_was_never_the_newest_never_counts():
    """A row that is known no earlier than its correction is no event, and holds up no other."""
    part = events([1, 2, 3], known=[9, 2, 3], gone=[9, NEVER, NEVER])
    assert ask(part, [(0, 3), (0, 9)], [1, 10, 100], "int64") == [110, 110]


def test_a_sum_beyond_int64_is_null_and_its_mean_is_not():
    """Sums of integers fit or are null; means are of the exact sum."""
    most = 2**63 - 1
    part = events([1, 2, 20])
    questions = [(0, 1), (0, 2), (0, 20)]
    assert ask(part, questions, [most, most, -5], "int64") == [most, None, -5]
    assert ask(part, questions, [most, most, -5], "int64", "mean") == [2.0**63, 2.0**63, -5.0]


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e300])
def test_what_a_window_no_longer_covers_leaves_no_trace(poison):
    """NaN, infinity and huge values count only for the windows that cover them."""
    part = events([1, 2, 20, 21])
    values = [poison, 0.1, 0.1, 0.2]
    for function, want in [("sum", 0.30000000000000004), ("mean", 0.15000000000000002)]:
        found = ask(part, [(0, 2), (0, 21)], values, "float64", function)
        assert repr(found[0]) == repr(poison / 2 if function == "mean" else poison)
        assert found[1] == want
    assert ask(part, [(0, 21)], values, "float64", "var") == [pytest.approx(0.005, rel=1e-15)]


def test_nan_is_least_and_greatest_only_of_nan_and_zero_has_no_sign():
    """A number beats NaN, -0.0 is given as 0.0, infinities are numbers."""
    part = events([1, 2], [1], [1], [1])
    values = [math.nan, -math.inf, math.nan, -0.0, math.inf]
    questions = [(0, 2), (1, 2), (2, 2), (3, 2)]
    for function in ("min", "max"):
        found = ask(part, questions, values, "float64", function)
        assert repr(found) == repr([-math.inf, math.nan, 0.0, math.inf])


def test_a_moment_at_the_beginning_of_time_has_a_tail():
    """A window that reaches before the least moment begins there."""
    least = -(2**63)
    part = events([least, least + 1])
    questions = [(0, least), (0, least + 1), (0, 0)]
    assert ask(part, questions, [1, 10], "int64", length=7, every=7) == [1, 11, 0]


def test_features_share_a_column_and_come_back_in_order():
    """A column is read once for all its features; each answer stands where it was asked."""
    reads = []
    frame = pl.DataFrame({"x": [1, 2, 3], "y": [0.5, None, 1.5]})

    def read(names):
        reads.extend(names)
        return frame.select(names)

    def asked(name, function, column, length):
        dtype = "int64" if column == "x" else "float64"
        window = Window(function=function, length=length, every=1, dtype=dtype)
        return Asked(window=window, input=column, name=name)

    features = [
        asked("a", "sum", "y", 9),
        asked("b", "last", "x", 9),
        asked("c", "sum", "x", 1),
        asked("d", "sum", "y", 1),
    ]
    part = events([1, 2, 3])
    key, at = integers([0, -1, 0]), integers([3, 3, 2])
    found = window_values(part, key, at, features, read)
    assert pl.DataFrame(found).to_dict(as_series=False) == {
        "a": [2.0, 0.0, 0.5],
        "b": [3, None, 2],
        "c": [5, 0, 3],
        "d": [1.5, 0.0, 0.5],
    }
    assert sorted(reads) == ["x", "y"]
