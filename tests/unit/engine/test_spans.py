"""Which events count at a moment, and when one is replaced."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.engine.spans import NEVER, Events, layers, prefix, search, superseded

LOWEST = -(2**63)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(
    stretches=st.lists(st.lists(st.integers(-9, 9), max_size=9).map(sorted), min_size=1),
    moment=st.integers(-10, 10) | st.sampled_from([LOWEST, NEVER]),
    through=st.booleans(),
)
def test_a_search_ends_where_the_moment_is(stretches, moment, through):
    """Each stretch is searched by itself, its edges included, ties before or after."""
    values = integers(*(value for stretch in stretches for value in stretch))
    fences = prefix(integers(*map(len, stretches)))
    moments = np.full(len(stretches), moment)
    found = search(values, fences[:-1], fences[1:], moments, through=through)
    want = [
        sum(value <= moment if through else value < moment for value in stretch)
        for stretch in stretches
    ]
    assert (found - fences[:-1]).tolist() == want


def test_prefix_sums_wrap_and_come_back():
    """A difference of prefix sums is right even where they left int64."""
    sums = prefix(integers(NEVER, NEVER, -5))
    assert (sums[3:] - sums[2:3]).tolist() == [-5]


@st.composite
def parts(draw: st.DrawFn) -> Events:
    """Give events of some keys that become known, and are gone, whenever they like."""
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    tick = st.integers(-8, 8)
    event = [sorted(draw(tick) for _ in range(size)) for size in sizes]
    flat = integers(*(one for of_key in event for one in of_key))
    late = integers(*(draw(st.sampled_from([0, 0, 0, 1, 5, 20])) for _ in flat))
    gone = [draw(st.sampled_from([NEVER, NEVER]) | tick) for _ in flat]
    return Events(
        starts=prefix(integers(*sizes)),
        event=flat,
        known=flat + late,
        gone=draw(st.sampled_from([None, integers(*gone)])),
    )


@settings(max_examples=150)
@given(events=parts(), ats=st.lists(st.integers(-10, 30), min_size=1, max_size=4), data=st.data())
def test_layers_hold_each_event_that_counts_once_and_in_order(events, ats, data):
    """All stretches of a question together are the events known, not gone, and not too old."""
    key = integers(*(data.draw(st.integers(-1, len(events.starts) - 2)) for _ in ats))
    at = integers(*ats)
    tails = [at - 3, at - 40]
    found = {(window, asked): [] for window in range(2) for asked in range(len(ats))}
    for layer in layers(events, key, at, tails):
        rows = np.arange(len(events.event)) if layer.rows is None else layer.rows
        for window, span in enumerate(layer.spans):
            asked = np.arange(len(ats)) if span.asked is None else span.asked
            for question, low, high in zip(asked, span.low, span.high, strict=True):
                stretch = rows[low:high].tolist()
                assert stretch == sorted(stretch)
                found[window, question] += stretch
    gone = np.full(len(events.event), NEVER) if events.gone is None else events.gone
    for (window, question), rows in found.items():
        number, moment = key[question], at[question]
        first, end = (events.starts[number], events.starts[number + 1]) if number >= 0 else (0, 0)
        want = [
            row
            for row in range(first, end)
            if events.known[row] <= moment < gone[row]
            and events.event[row] >= tails[window][question]
        ]
        assert sorted(rows) == want


def versions(**columns: list[int]) -> np.ndarray | None:
    given_ = {name: integers(*values) for name, values in columns.items()}
    rows = len(given_["number"])
    zero = dict.fromkeys(("key", "created", "revision", "event", "known"), np.zeros(rows, np.int64))
    return superseded(**(zero | given_))


@pytest.mark.parametrize(
    "columns",
    [
        {"number": []},
        {"number": [1, 2, 3]},
        {"number": [1, 1], "key": [0, 1]},
        {"number": [LOWEST, NEVER, -1, 0]},
    ],
)
def test_without_versions_nothing_is_superseded(columns):
    """Events of other numbers, or of other keys, replace nothing."""
    assert versions(**columns) is None


@pytest.mark.parametrize(
    ("columns", "gone"),
    [
        ({"number": [1, 1], "created": [5, 4], "known": [5, 4]}, [NEVER, 5]),
        ({"number": [1, 1], "created": [LOWEST, 4], "known": [0, 4]}, [4, NEVER]),
        ({"number": [1, 1], "revision": [2, 1], "known": [3, 9]}, [NEVER, 3]),
        ({"number": [1, 1], "event": [2, 1], "known": [3, 9]}, [NEVER, 3]),
        ({"number": [1, 1], "known": [3, 9]}, [9, NEVER]),
        ({"number": [1, 1, 1], "created": [1, 2, 3], "known": [1, 9, 4]}, [4, 4, NEVER]),
        (
            {"number": [7, 1, 7, 1], "created": [1, 1, 2, 2], "known": [1, 2, 3, 4]},
            [3, 4, NEVER, NEVER],
        ),
    ],
)
def test_a_version_is_gone_when_a_greater_one_is_known(columns, gone):
    """The greater has the greater (created, revision, event, place), whichever is known first."""
    assert versions(**columns).tolist() == gone
