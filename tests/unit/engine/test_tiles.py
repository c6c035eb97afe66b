"""Unit tests of window states: where tiles begin, what is kept, which version counts."""

import math

import numpy as np
import pytest

from featurestore.engine.questions import asking
from featurestore.engine.tiles import FOLDED, beside, built, taken_in
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
    """Build the state of one entity; give it, and what is left of what was pushed."""
    return built(plan_of(of), 1, frame(of, found), nobody(*found), lateness=lateness, kept=kept)


def none(of):
    """Give an entity without a state, to which nothing was pushed."""
    return States.none(plan_of(of), 1), States.none(plan_of(of), 1)


def push(of, held, *found, arrived=7):
    """Push events of one entity; give its state, what was pushed to it, and how many it refused."""
    states, pushed = held
    rows = frame(of, found)
    made, refused = taken_in(plan_of(of), states, pushed, rows, nobody(*found), arrived=arrived)
    return (states, made), int(refused.sum())


def times(records):
    """Give the times of events."""
    return records["event"].tolist()


def answers(of, held, at):
    """Give what each window says of one entity; None where there is nothing."""
    found = served(of, beside(plan_of(of), *held), at)
    return [shown[0].item() if valid[0] else None for shown, valid in found]


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
    found = [event(at, number=at + again) for at in times for again in (0, 1000)]
    states, _ = build(of, *found, event(newest))
    assert states.tiles["start"].tolist() == starts
    assert {*states.events["event"].tolist()} == {newest}


def test_tiles_grow_wider_and_go_as_time_passes():
    """What only longer windows cover is folded together; what none covers is gone."""
    of = view(SUM, feature("sum", "float64", 200, 50))
    found = [event(at, number=at + again) for at in (40, 41, 52, 63) for again in (0, 1000)]
    for at, starts, sums in (
        (65, [40, 50, 60], [4.0, 2.0, 2.0]),
        (150, [0, 50], [4.0, 4.0]),
        (299, [50], [4.0]),
    ):
        states, _ = build(of, *found, event(at))
        assert states.tiles["start"].tolist() == starts
        assert states.tiles["high"][:, 0].tolist() == sums


def test_older_events_are_bare_or_in_tiles_as_is_smaller():
    """Each entity has the one or the other, and both answer alike."""
    of = view(SUM, LAST)
    few = build(of, event(41, 1.0), event(52, 2.0), event(53, 4.0), event(80))
    many = build(of, *(event(at, 0.5, number=at) for at in range(40, 60)), event(80))
    assert (times(few[0].bare), len(few[0].tiles)) == ([41, 52, 53], 0)
    assert (times(many[0].bare), len(many[0].tiles)) == ([], 2)
    assert answers(of, few, 80) == [8.0, 1.0]
    assert answers(of, many, 80) == [11.0, 1.0]
    assert answers(of, few, 110) == [7.0, 1.0]


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
    assert answers(of, none(of), 5) == [0, 0, *[None] * 7]
    assert not none(of)[0].present[0]


def test_nothing_left_is_no_state():
    """Without versions an event that no window reaches goes, and with the last one the state."""
    of = view(SUM, event_id=None)
    late, _ = build(of, event(10, created=500), lateness=10**6)
    assert not late.present[0]
    assert (late.newest[0], late.horizon[0]) == (BEGINNING, BEGINNING)
    kept, _ = build(view(SUM), event(10, created=500))
    assert kept.present[0]


def test_rows_before_the_horizon_are_refused():
    """What a state does not keep whole any more cannot be told from what is pushed."""
    of = view(SUM)
    held = build(of, event(100), lateness=20)
    same, refused = push(of, held, event(79))
    assert refused == 1
    assert not same[1].present[0]
    more, refused = push(of, held, event(79), event(80), event(200), event(81))
    assert refused == 1
    assert (times(more[1].events), more[1].newest[0]) == ([80, 81, 200], 200)
    assert push(of, none(of), event(200), event(5))[1] == 0


def test_a_version_of_an_older_event_is_refused():
    """Its other version counts in a tile, or bare: both would; the state must be built again."""
    of = view(SUM)
    found = [event(40, 1.0), event(41, 1.0), event(90, 2.0)]
    held = build(of, *found, lateness=5)
    assert held[0].folded.tolist() == [40, 41]
    moved = event(95, 9.0, number=40, created=95)
    same, refused = push(of, held, moved, event(96, 4.0, number=1))
    assert refused == 1
    assert answers(of, same, 96) == [8.0]
    after = build(of, *found[1:], moved, lateness=5, kept=same[1])
    assert answers(of, after, 96) == [16.0]


def test_only_so_many_older_events_are_known_by_their_numbers():
    """The latest; of no more than that an entity's state has to tell every push."""
    of = view(feature("sum", "float64", 10_000, 10))
    held = build(of, *(event(at) for at in range(FOLDED + 5)), event(5_000))
    assert held[0].folded.tolist() == list(range(5, FOLDED + 5))
    assert len(held[0].tiles) == 101
    for number, refused in ((4, 0), (5, 1)):
        assert push(of, held, event(5_001, number=number, created=6_000))[1] == refused


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
        held = none(of)
        for batch in batches:
            held, _ = push(of, held, *batch)
        made.append(held[1].events.tobytes())
        assert answers(of, held, 60) == [greater["inputs"]["float64"]] * 2
    assert len(set(made)) == 1
    # Of equals that of offline counts: see below.
    equal = one.keys() == {"value"}
    for first, then in () if equal else ((lesser, greater), (greater, lesser)):
        held, _ = push(of, build(of, first, lateness=100), then)
        assert answers(of, held, 60) == [greater["inputs"]["float64"]] * 2


def test_offline_wins_a_tie():
    """Of two equal versions with other values, what offline has is kept, and a push changes it."""
    of = view(SUM)
    (_, pushed), _ = push(of, none(of), event(50, 9.0))
    held = build(of, event(50, 1.0), lateness=100, kept=pushed)
    assert answers(of, held, 50) == [1.0]
    again, _ = push(of, held, event(50, 9.0))
    assert answers(of, again, 50) == [1.0]
    corrected, _ = push(of, held, event(50, 9.0, created=50))
    assert answers(of, corrected, 50) == [9.0]


def test_sums_beyond_int64_are_null_until_they_fit_again():
    """Integers add up exactly, whatever is between."""
    of = view(feature("sum", "int64", 60, 10), feature("sum", "uint32", 60, 10))
    most, cells = 2**63 - 1, {"float64": 0.0, "bool": True, "uint32": 2**32 - 1}
    found = [{**event(at), "inputs": {**cells, "int64": most}} for at in (5, 15, 25)]
    held = build(of, *found)
    assert answers(of, held, 25) == [None, 3 * (2**32 - 1)]
    assert answers(of, held, 80) == [most, 2**32 - 1]


def test_a_row_feature_is_no_window():
    """Only windows are asked of states."""
    of = view(SUM)
    plain = SUM.__class__(
        id="", name="x", dtype="int64", expression=SUM.expression, reads=(), window=None
    )
    with pytest.raises(ValueError, match="x is no window feature"):
        asking(plan_of(of), [plain])


def test_what_offline_may_lack_is_kept_whole():
    """A pushed event stands beside a state until it is built of rows that have it."""
    of = view(SUM)
    found = [event(at) for at in (40, 50, 90)]
    (_, pushed), _ = push(of, none(of), *found)
    half = build(of, *found[:1], lateness=5, kept=pushed)
    assert (half[0].horizon[0], times(half[0].bare), times(half[1].events)) == (50, [40], [50, 90])
    later, refused = push(of, half, *(event(at) for at in (95, 51, 49)))
    assert (times(later[1].events), refused) == ([50, 51, 90, 95], 1)
    whole = build(of, *found, event(95), event(51), lateness=5, kept=later[1])
    assert (whole[0].horizon[0], times(whole[0].events)) == (90, [90, 95])
    assert not whole[1].present[0]
