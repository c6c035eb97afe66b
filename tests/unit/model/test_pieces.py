"""Pieces: how a run's interval is cut, what stands after runs, and where a source changed."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.model.pieces import MOST, Checked, Piece, Read, changed, cut, doubtful, standing
from featurestore.model.time import BEGINNING, Interval, micros

HOUR = 3_600_000_000
DAY = 24 * HOUR
T0 = micros(datetime(2024, 3, 1, tzinfo=UTC))


def span(start, end):
    """Give an interval."""
    return Interval(start=start, end=end)


def read(start, end, digest="d"):
    """Give what was read in an interval."""
    return Read(interval=span(start, end), rows=end - start, digest=digest)


def piece(start, end, *, digest="d", source="now", number=1):
    """Give a piece as a run read it."""
    return Piece(
        interval=span(start, end), read=read(start, end, digest), source=source, number=number
    )


def test_a_run_is_cut_at_days_and_where_the_next_runs_will_start():
    """Days end at midnight UTC, the next incremental run starts settle before the end."""
    found = cut(span(T0 - 1, T0 + 2 * DAY + 5 * HOUR), first=T0 + HOUR, settle=HOUR)
    assert [one.end - T0 for one in found] == [
        DAY - 1,
        2 * DAY - 1,
        2 * DAY + 4 * HOUR,
        2 * DAY + 5 * HOUR - 1,
        2 * DAY + 5 * HOUR,
    ]


def test_what_is_before_the_first_row_stays_in_one_piece():
    """The beginning of time is not cut into days; without rows there is no grid at all."""
    first, *_ = cut(span(BEGINNING, T0 + 9 * DAY), first=T0 + HOUR, settle=0)
    assert first == span(BEGINNING, T0 + DAY - 1)
    assert cut(span(BEGINNING, T0), first=None, settle=0) == (
        span(BEGINNING, T0 - 1),
        span(T0 - 1, T0),
    )


@given(
    start=st.integers(-(10**6), 10**6),
    length=st.integers(1, 10**6),
    first=st.none() | st.integers(-(10**6), 2 * 10**6),
    settle=st.integers(0, 10**5),
)
def test_pieces_of_a_run_are_few_and_fill_it(start, length, first, settle):
    """Whatever the interval (here in minutes), its pieces join to it and stay within bounds."""
    minute = 60_000_000
    whole = span(T0 + start * minute, T0 + (start + length) * minute)
    known = None if first is None else T0 + first * minute
    found = cut(whole, first=known, settle=settle * minute)
    assert (found[0].start, found[-1].end) == (whole.start, whole.end)
    assert all(one.end == two.start for one, two in pairwise(found))
    assert all(one.start < one.end for one in found)
    assert len(found) <= MOST + 4


RUNS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 12), st.sets(st.integers(0, 42), max_size=5)),
    max_size=12,
)


@given(RUNS)
def test_of_each_moment_the_newest_run_tells_what_was_read(runs):
    """Against a dictionary of moments: the newest run's number, known only in whole pieces."""
    told, moments = [], {}
    for number, (start, length, edges) in enumerate(runs):
        end = start + length
        bounds = sorted({start, end, *(edge for edge in edges if start < edge < end)})
        pieces = [piece(a, b, number=number) for a, b in pairwise(bounds)]
        told.append(pieces)
        moments.update({at: one for one in pieces for at in range(*_bounds(one))})
    found = standing(told)
    assert all(a.interval.end <= b.interval.start for a, b in pairwise(found))
    assert {at: one.number for one in found for at in range(*_bounds(one))} == {
        at: one.number for at, one in moments.items()
    }
    whole = [one for run in told for one in run if _stands(one, moments)]
    assert [one for one in found if one.read] == sorted(whole, key=_bounds)


def _bounds(one):
    return one.interval.start, one.interval.end


def _stands(one, moments):
    return all(moments[at] is one for at in range(*_bounds(one)))


def test_a_piece_that_a_later_run_cut_keeps_its_source():
    """What is left of it was read from that state, only what was read there is not known."""
    left, middle, right = standing([[piece(0, 9)], [piece(3, 5, number=2, source="later")]])
    assert [left, right] == [
        replace(piece(0, 9), interval=span(0, 3), read=None),
        replace(piece(0, 9), interval=span(5, 9), read=None),
    ]
    assert middle.source == "later"


DOUBTS = {
    "read in this state": (piece(0, 9), None, "now", False),
    "read in another": (piece(0, 9, source="then"), None, "now", True),
    "checked in this state": (
        piece(0, 9, source="then"),
        Checked(source="now", number=1),
        "now",
        False,
    ),
    "checked in another": (
        piece(0, 9, source="then"),
        Checked(source="then", number=1),
        "now",
        True,
    ),
    "of a run after the check": (
        piece(0, 9, source="then", number=2),
        Checked(source="now", number=1),
        "now",
        True,
    ),
    "of a source that cannot say": (piece(0, 9, source=""), None, "", True),
    "checked, but it cannot say": (
        piece(0, 9, source=""),
        Checked(source="", number=1),
        "",
        True,
    ),
}


@pytest.mark.parametrize(("one", "checked", "now", "looked_at"), DOUBTS.values(), ids=DOUBTS.keys())
def test_a_piece_is_looked_at_unless_its_state_is_the_sources(one, checked, now, looked_at):
    """Nothing is read for what was read from, or found right in, the state the source is in."""
    assert bool(doubtful([one], now, checked)) == looked_at


def test_changed_pieces_that_touch_are_merged_and_others_left():
    """A moved digest or a number of rows is a change, and so is what is not known."""
    pieces = [piece(n, n + 1) for n in range(5)]
    now = [read(0, 1), read(1, 2, "e"), replace(read(2, 3), rows=7), read(3, 4), read(4, 5)]
    pieces[4] = replace(pieces[4], read=None)
    assert changed(pieces, now, 1) == (span(1, 3), span(4, 5))


def test_what_a_source_let_go_of_is_no_change():
    """Before the first row that it still has nothing is computed again; from there on, all is."""
    pieces = [piece(0, 10), piece(10, 20), piece(20, 30)]
    now = [read(0, 10, "gone"), read(10, 20, "part"), read(20, 30)]
    assert changed(pieces, now, 15) == (span(14, 20),)
    assert changed(pieces, now, None) == ()
