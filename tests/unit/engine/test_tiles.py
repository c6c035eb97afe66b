"""Unit tests of window states: where tiles begin, what is kept, which version counts."""

import math

import numpy as np
import pytest

from featurestore.engine.questions import asking
from featurestore.engine.tiles import built, fresh, merged
from featurestore.model.tiles import States, plan_of
from featurestore.model.time import BEGINNING
from tests.windows import feature, frame, served, view

SUM = feature("sum", "float64", 60, 10)
LAST = feature("last", "float64", 60, 10)


def event(at, value=1.0, *, created=None, number=None, revision=0):
    """Describe an event."""
    return {
        "event": at,
        "created": created,
        "known": at if created is None else max(at, created),
        "revision": revision,
        "number": at if number is None else number,
        "inputs": dict.fromkeys(("float64", "int64", "bool", "uint32"), value),
    }


def nobody(*found):
    """Give the owner of events of one entity."""
    return np.zeros(len(found), np.int64)


def build(of, *found, lateness=0, kept=None):
    """Build the state of one entity."""
    return built(plan_of(of), 1, frame(of, found), nobody(*found), lateness=lateness, kept=kept)


def push(of, states, *found, lateness=10**6, arrived=0):
    """Merge events of one entity; give its state and how many were refused."""
    rows = frame(of, found)
    made, refused = merged(
        plan_of(of), states, rows, nobody(*found), lateness=lateness, arrived=arrived
    )
    return made, int(refused.sum())


def answers(of, states, at):
    """Give what each window says of one entity; None where there is nothing."""
    return [shown[0].item() if valid[0] else None for shown, valid in served(of, states, at)]


@pytest.mark.parametrize(
    ("spans", "newest", "times", "starts"),
    [
        ([(60, 10)], 100, [40, 49, 50, 61, 99], [40, 50, 60, 90]),
        ([(60, 10)], 105, [39, 40, 49], [40]),
        ([(60, 10)], -1, [-71, -70, -62, -1], [-70]),
        ([(60, 10), (200, 50)], 200, [0, 9, 49, 51, 139, 140, 149, 151], [0, 50, 100, 140, 150]),
        ([(60, 12), (60, 9)], 100, [36, 37, 40, 59], [36, 39, 57]),
        ([(60, 60), (500, 90)], 600, [90, 91, 179, 539, 540, 599], [90, 450, 540, 570]),
    ],
)
def test_tiles_are_as_wide_as_the_windows_that_reach_them_allow(spans, newest, times, starts):
    """A tile's start and end are edges of every window that may still cover it."""
    of = view(*(feature("sum", "float64", *span) for span in spans))
    states = build(of, *map(event, times), event(newest))
    assert states.tiles["start"].tolist() == starts
    assert states.events["event"].tolist() == [newest]


def test_tiles_grow_wider_and_go_as_time_passes():
    """What only longer windows cover is folded together; what none covers is gone."""
    of = view(SUM, feature("sum", "float64", 200, 50))
    states, _ = push(of, States.none(plan_of(of), 1), *map(event, (40, 41, 52, 63)), lateness=0)
    assert states.tiles["start"].tolist() == [40, 50]
    states, _ = push(of, states, event(150), lateness=0)
    assert states.tiles["start"].tolist() == [0, 50]
    assert states.tiles["high"].tolist() == [[2.0], [2.0]]
    states, _ = push(of, states, event(299), lateness=0)
    assert states.tiles["start"].tolist() == [50, 150]


def test_a_window_moves_on_without_a_write():
    """From the newest known-at on, events leave at edges of `every`, with all they did."""
    of = view(SUM, LAST, feature("mean", "float64", 60, 10))
    states = build(of, event(10, math.inf), event(19, 2.0), event(70, 3.0))
    assert answers(of, states, 79) == [math.inf, 3.0, math.inf]
    assert answers(of, states, 80) == [3.0, 3.0, 3.0]
    assert answers(of, states, 139) == [3.0, 3.0, 3.0]
    assert answers(of, states, 140) == [0.0, None, None]


def test_the_least_and_greatest_are_never_minus_zero():
    """-0.0 is 0.0 for them, from an event as from a tile; first and last are as they came."""
    of = view(*(feature(name, "float64", 60, 10) for name in ("min", "max", "first", "last")))
    for lateness in (0, 100):
        found = answers(of, build(of, event(10, -0.0), event(12, -0.0), lateness=lateness), 12)
        assert [math.copysign(1, value) for value in found] == [1, 1, -1, -1]


def test_no_state_answers_as_no_event():
    """An entity nobody has seen has 0 for counts and sums, null for the rest."""
    functions = ("count", "sum", "mean", "std", "var", "min", "max", "first", "last")
    of = view(*(feature(f, "bool" if f == "count" else "int64", 60, 10) for f in functions))
    states = States.none(plan_of(of), 1)
    assert answers(of, states, 5) == [0, 0, *[None] * 7]
    assert not states.present[0]


def test_nothing_left_is_no_state():
    """Without versions an event that no window reaches goes, and with the last one the state."""
    of = view(SUM, event_id=None)
    late = build(of, event(10, created=500), lateness=10**6)
    assert not late.present[0]
    assert (late.newest[0], late.horizon[0]) == (BEGINNING, BEGINNING)
    kept = build(view(SUM), event(10, created=500))
    assert kept.present[0]


def test_rows_before_the_horizon_are_refused():
    """The horizon is that before the batch; what is refused changes nothing of the state."""
    of = view(SUM)
    states = build(of, event(100), lateness=20)
    same, refused = push(of, states, event(79), lateness=20)
    assert refused == 1
    assert same.tiles.tobytes() + same.events.tobytes() == states.events.tobytes()
    more, refused = push(of, states, event(79), event(80), event(200), event(81), lateness=20)
    assert refused == 1
    assert (more.newest[0], more.horizon[0]) == (200, 180)
    assert push(of, States.none(plan_of(of), 1), event(200), event(5), lateness=20)[1] == 0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"created": None}, {"created": -500}),
        ({"created": 3, "revision": 9}, {"created": 4}),
        ({"created": 4, "revision": 1}, {"created": 4, "revision": 2}),
        ({"created": 4, "revision": 1, "at": 51}, {"created": 4, "revision": 2}),
        ({"created": 4, "at": 50}, {"created": 4, "at": 51}),
        ({"value": 2.0}, {"value": 1.0}),
    ],
)
def test_the_greater_version_counts_whichever_comes_first(one, two):
    """Created (null the lowest), revision, event, then the bytes decide."""
    of = view(SUM, LAST)

    def version(at=50, value=1.0, **rest):
        return event(at, value, number=1, **rest)

    lesser, greater = version(**one), version(**{"value": 5.0} | two)
    orders = [((lesser,), (greater,)), ((greater,), (lesser,)), ((lesser, greater),)]
    made = []
    for batches in orders:
        states = States.none(plan_of(of), 1)
        for batch in batches:
            states, _ = push(of, states, *batch)
        made.append(states.events.tobytes())
        assert answers(of, states, 60) == [greater["inputs"]["float64"]] * 2
    assert len(set(made)) == 1


def test_offline_wins_a_tie():
    """Of two equal versions with other values, what offline has is kept, and a push changes it."""
    of = view(SUM)
    pushed, _ = push(of, States.none(plan_of(of), 1), event(50, 9.0), arrived=7)
    states = build(of, event(50, 1.0), lateness=100, kept=fresh(pushed))
    assert answers(of, states, 50) == [1.0]
    again, _ = push(of, states, event(50, 9.0), arrived=7)
    assert again.events.tobytes() == states.events.tobytes()
    corrected, _ = push(of, states, event(50, 9.0, created=50), arrived=7)
    assert answers(of, corrected, 50) == [9.0]


def test_fresh_events_are_those_that_offline_may_lack():
    """They were pushed, and no table was seen to have them; tiles are not kept."""
    of = view(SUM)
    states = States.none(plan_of(of), 1)
    for at, arrived in ((10, 0), (20, 300), (30, 0)):
        states, _ = push(of, states, event(at), arrived=arrived)
    assert states.pushed.tolist() == [True]
    kept = fresh(states)
    assert (kept.events["event"].tolist(), kept.event_counts.tolist()) == ([20], [1])


def test_sums_beyond_int64_are_null_until_they_fit_again():
    """Integers add up exactly, whatever is between."""
    of = view(feature("sum", "int64", 60, 10), feature("sum", "uint32", 60, 10))
    most, cells = 2**63 - 1, {"float64": 0.0, "bool": True, "uint32": 2**32 - 1}
    found = [{**event(at), "inputs": {**cells, "int64": most}} for at in (5, 15, 25)]
    states = build(of, *found)
    assert answers(of, states, 25) == [None, 3 * (2**32 - 1)]
    assert answers(of, states, 80) == [most, 2**32 - 1]


def test_a_row_feature_is_no_window():
    """Only windows are asked of states."""
    of = view(SUM)
    plain = SUM.__class__(
        id="", name="x", dtype="int64", expression=SUM.expression, reads=(), window=None
    )
    with pytest.raises(ValueError, match="x is no window feature"):
        asking(plan_of(of), [plain])


def test_what_offline_may_lack_is_kept_one_by_one():
    """An event that was pushed never stands in a tile, until offline has it, however old it is."""
    of = view(SUM)
    found = [event(at) for at in (40, 50, 90)]
    at_once, _ = push(of, States.none(plan_of(of), 1), *found, lateness=5, arrived=7)
    assert (at_once.horizon[0], len(at_once.events), len(at_once.tiles)) == (40, 3, 0)
    more = [event(at) for at in (95, 41, 39)]
    later, refused = push(of, at_once, *more, lateness=5, arrived=7)
    assert [one["event"] for one in later.events] == [40, 41, 50, 90, 95]
    assert refused == 1
    confirmed = build(of, *found, *more, lateness=5, kept=fresh(later))
    assert (confirmed.horizon[0], [one["event"] for one in confirmed.events]) == (90, [90, 95])
    assert not confirmed.pushed.any()
    half = build(of, *found[:1], lateness=5, kept=fresh(later))
    assert [one["event"] for one in half.events] == [41, 50, 90, 95]
