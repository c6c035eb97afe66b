"""Revisions by comparing columns, against packed rows compared as bytes."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.jobs.revise import revise
from featurestore.model.time import CREATED, EVENT, KNOWN, REVISION
from featurestore.storage.unique import canonical
from tests.columns import columns
from tests.tables import make_view, stored

VALUES = {"x": "float32", "y": "list[float64]", "z": "string"}
VIEWS = [make_view(values=VALUES), make_view(values=VALUES, keys={})]


def oracle(view, before, rows):
    """Say the same by packing every row."""
    names = [*(key.name for key in view.join_keys), EVENT, CREATED]
    old = {
        place: (revision, packed)
        for *place, revision, packed in before.select(
            *names, REVISION, canonical(view, before)
        ).rows()
        for place in [tuple(place)]
    }
    revisions, same = [], before.height == rows.height
    for *place, packed in rows.select(*names, canonical(view, rows)).rows():
        revision, was = old.get(tuple(place), (None, None))
        same &= was == packed
        revisions.append(0 if revision is None else revision + (was != packed))
    return revisions, same


@st.composite
def frames(draw, view):
    """Draw what a table holds and what a run computed, alike for about half of the values."""
    times = draw(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=8, unique=True))
    times = times if view.join_keys else list({time[1:]: time for time in times}.values())
    place = {"tailnum": [str(one[0]) for one in times]} if view.join_keys else {}
    place |= {EVENT: [one[1] for one in times], CREATED: [one[2] or None for one in times]}
    made = [
        {name: draw(columns(dtype, len(times), name)) for name, dtype in VALUES.items()}
        for _ in range(2)
    ]
    marks = [
        pl.Series(
            draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times))),
            dtype=pl.Boolean,
        )
        for _ in range(3)
    ]
    mixed = {n: one.zip_with(marks[0], made[1][n]) for n, one in made[0].items()}
    revisions = draw(st.lists(st.integers(0, 9), min_size=len(times), max_size=len(times)))
    before = stored(view, place | made[0] | {REVISION: revisions}).filter(marks[1])
    rows = stored(view, place | mixed).filter(marks[2]).drop(REVISION)
    return before.sample(fraction=1, shuffle=True, seed=1), rows


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(VIEWS).flatmap(lambda view: st.tuples(st.just(view), frames(view))))
def test_a_row_is_revised_if_its_packed_bytes_moved(drawn):
    """Kept, corrected and new rows get the revisions that comparing whole packed rows gives."""
    view, (before, rows) = drawn
    found, changed = revise(view, before, rows)
    assert (found[REVISION].to_list(), changed is None) == oracle(view, before, rows)
    assert found[REVISION].dtype == pl.UInt32
    assert found.drop(REVISION).equals(rows)


@settings(max_examples=20, deadline=None)
@given(frames(VIEWS[0]))
def test_the_same_rows_again_are_the_same(drawn):
    """What a table holds already is found to be so, and keeps its revisions."""
    before, _ = drawn
    found, changed = revise(VIEWS[0], before, before.drop(REVISION))
    assert changed is None
    assert found.select(before.columns).equals(before)
    assert KNOWN in found.columns


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(VIEWS).flatmap(lambda view: st.tuples(st.just(view), frames(view))))
def test_what_is_written_is_the_least_that_makes_the_table_right(drawn):
    """Outside the interval the table holds the run's rows; at both its ends it does not."""
    view, (before, rows) = drawn
    found, changed = revise(view, before, rows)

    def at(frame, *, written):
        moments = pl.col(KNOWN).to_physical()
        inner = pl.lit(value=False)
        if changed is not None:
            inner = (moments > changed.start) & (moments <= changed.end)
        order = [*(key.name for key in view.join_keys), EVENT, CREATED]
        kept = frame.filter(inner if written else ~inner).select(before.columns)
        return [tuple(map(repr, row)) for row in kept.sort(order).rows()]

    assert at(before, written=False) == at(found, written=False)
    if changed is not None:
        for edge in (changed.start + 1, changed.end):
            ends = pl.col(KNOWN).to_physical() == edge
            assert sorted(map(repr, before.filter(ends).rows())) != sorted(
                map(repr, found.select(before.columns).filter(ends).rows())
            )
