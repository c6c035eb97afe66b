"""The laws of window states: merged in any order or built at once, they answer as events do."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featurestore.engine.spans import Events
from featurestore.engine.tiles import beside, built, taken_in
from featurestore.engine.windows import Asked, window_values
from featurestore.model.schema import SCALARS
from featurestore.model.tiles import States, plan_of
from featurestore.model.windows import TAKES, input_name
from featurestore.storage.bits import same_bits
from featurestore.storage.states import decode_states, encode_states
from tests.windows import answer, column, counted, feature, frame, order, rank, served, view

OWNERS = 3
EXACT = ("count", "first", "last", "min", "max")
FLOATS = (0.0, -0.0, 1.5, -2.25, 0.1, 1e16, -1e16, 3e-5, math.inf, -math.inf, math.nan)
LENGTHS = st.sampled_from([(60, 60), (60, 7), (60, 12), (100, 30), (45, 45), (20, 10), (333, 90)])


def inputs(dtype, extremes):
    """Draw inputs of a dtype; dates and datetimes as numbers."""
    if dtype == "bool":
        return st.none() | st.booleans()
    if dtype in ("float32", "float64"):
        return st.none() | st.sampled_from(extremes) | st.integers(-50, 50).map(float)
    kind = {"date": "int32", "datetime": "int64"}.get(dtype, dtype)
    low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    low = low + 1 if dtype == "datetime" else low
    return st.none() | st.sampled_from([low, 0, 1, high]) | st.integers(low, high)


@st.composite
def views(draw, *, event_id="id"):
    """Draw a view of a few windows over a few inputs."""
    dtypes = draw(st.lists(st.sampled_from([*SCALARS]), min_size=1, max_size=3, unique=True))
    dtypes = [dtype for dtype in dtypes if dtype != "string"] or ["float64"]
    spans = draw(st.lists(LENGTHS, min_size=1, max_size=3, unique=True))
    features = {}
    for dtype in dtypes:
        takes = [name for name, taken in TAKES.items() if dtype in taken]
        for function in draw(st.lists(st.sampled_from(takes), min_size=1, max_size=5)):
            one = feature(function, dtype, *draw(st.sampled_from(spans)))
            features[one.name] = one
    return view(*features.values(), event_id=event_id)


@st.composite
def events(draw, of, *, most=25, extremes=FLOATS):
    """Draw events of a few entities, with ties, some known late; no two of one number."""
    dtypes = {one.window.dtype for one in of.features}
    made = []
    for number in range(draw(st.integers(0, most))):
        at = draw(st.integers(-250, 250))
        created = draw(st.none() | st.integers(at - 5, at + 60))
        made.append(
            {
                "owner": draw(st.integers(0, OWNERS - 1)),
                "event": at,
                "created": created,
                "known": max(at, created if created is not None else at),
                "revision": draw(st.integers(0, 2)),
                "number": number,
                "inputs": {dtype: draw(inputs(dtype, extremes)) for dtype in dtypes},
            }
        )
    return made


def owners(found):
    """Give the owner of each event."""
    return np.array([event["owner"] for event in found], np.int64)


def packed(of, *held):
    """Give states by way of their bytes."""
    plan = plan_of(of)
    return tuple(decode_states(plan, encode_states(plan, one)) for one in held)


def none(of):
    """Give entities without states, to which nothing was pushed."""
    return States.none(plan_of(of), OWNERS), States.none(plan_of(of), OWNERS)


def push(of, held, found, *, arrived=1):
    """Push events beside states; give both, and which events were refused."""
    rows = frame(of, found)
    made, refused = taken_in(plan_of(of), *held, rows, owners(found), arrived=arrived)
    return packed(of, held[0], made), refused


def build(of, found, *, lateness=0, kept=None):
    """Build states of events at once; give them and what is left of what was pushed."""
    rows, plan = frame(of, found), plan_of(of)
    return packed(of, *built(plan, OWNERS, rows, owners(found), lateness=lateness, kept=kept))


def check(of, held, found, *, later=(0, 5, 61, 400)):
    """Every window of every entity is that of its events, at its newest known-at and after it."""
    states = beside(plan_of(of), *held)
    versions = of.event_id is not None
    for owner in range(OWNERS):
        own = counted([e for e in found if e["owner"] == owner], versions=versions)
        newest = max((event["known"] for event in own), default=0)
        for after in later:
            found_now = served(of, states, newest + after)
            for one, (shown, valid) in zip(of.features, found_now, strict=True):
                expected = answer(one, own, newest + after)
                assert valid[owner] == (expected is not None), (one.name, after, expected)
                same(one, shown[owner], 0 if expected is None else expected, own)


def same(one, shown, expected, own):
    """A value is as expected: to the last bit, but variances to what 106 bits of squares hold."""
    if isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(shown), one.name
    elif one.window.function in ("var", "std"):
        power = 2 if one.window.function == "std" else 1
        inputs = [event["inputs"][one.window.dtype] for event in own]
        squares = sum(float(each) ** 2 for each in inputs if each is not None)
        bound = max(1e-300, 1e-31 * squares)
        assert shown**power == pytest.approx(expected**power, rel=1e-12, abs=bound), one.name
    else:
        assert shown == expected, one.name
        assert math.copysign(1, shown) == math.copysign(1, expected), one.name


@settings(max_examples=18)
@given(st.data())
def test_pushed_in_any_batches_is_as_pushed_at_once(data):
    """Batches and orders make no difference: not in values, not in bytes."""
    of = data.draw(views())
    found = data.draw(events(of))
    held, left = none(of), data.draw(st.permutations(found))
    while left:
        size = data.draw(st.integers(1, len(left)))
        batch, left = left[:size], left[size:]
        held, refused = push(of, held, batch)
        assert not refused.any()
    check(of, held, found)
    at_once, _ = push(of, none(of), found)
    plan = plan_of(of)
    assert encode_states(plan, held[1]) == encode_states(plan, at_once[1])


@settings(max_examples=18)
@given(st.data(), st.integers(0, 200), st.sampled_from(["id", None]))
def test_built_states_answer_as_their_events_do(data, lateness, event_id):
    """However much is bare or folded into tiles, every window has the value of its events."""
    of = data.draw(views(event_id=event_id))
    found = data.draw(events(of, most=data.draw(st.sampled_from([25, 90]))))
    check(of, build(of, found, lateness=lateness), found)


@settings(max_examples=18)
@given(st.data(), st.integers(0, 200))
def test_what_is_not_refused_counts_and_what_is_refused_does_not(data, lateness):
    """Some are built, others pushed, and built again: a refused row changes no byte."""
    of = data.draw(views())
    found = data.draw(events(of))
    first = data.draw(st.integers(0, len(found)))
    offline, left = found[:first], found[first:]
    held, taken = build(of, offline, lateness=lateness), list(offline)
    plan = plan_of(of)
    while left:
        size = data.draw(st.integers(1, len(left)))
        batch, left = left[:size], left[size:]
        before, horizon = encode_states(plan, held[1]), held[0].horizon
        held, refused = push(of, held, batch)
        assert refused.tolist() == [e["event"] < horizon[e["owner"]] for e in batch]
        kept = [event for event, no in zip(batch, refused, strict=True) if not no]
        taken += kept
        untouched = set(range(OWNERS)) - {event["owner"] for event in kept}
        after = encode_states(plan, held[1])
        assert all(before[owner] == after[owner] for owner in untouched)
        if data.draw(st.booleans()):
            offline += data.draw(st.lists(st.sampled_from(batch), unique_by=id))
            held = build(of, offline, lateness=lateness, kept=held[1])
            taken += [event for event in offline if event not in taken]
    check(of, held, taken)


def latest(versions):
    """Give the greatest version of each event of each entity."""
    best = {}
    for event in versions:
        key = (event["owner"], event["number"])
        best[key] = max(best.get(key, event), event, key=rank)
    return list(best.values())


@settings(max_examples=30)
@given(st.data(), st.integers(0, 200))
def test_of_versions_the_greatest_counts_wherever_they_stand(data, lateness):
    """Built or pushed in any order, each event counts once; what would count twice is refused."""
    of = data.draw(views())
    found = data.draw(events(of))
    versions = [
        {**event, "number": event["number"] % 4, "created": event["known"]} for event in found
    ]
    ties = [rank(event) for event in versions]
    assume(len(ties) == len(set(ties)))
    first = data.draw(st.integers(0, len(versions)))
    offline, left = versions[:first], data.draw(st.permutations(versions[first:]))
    held, taken = build(of, offline, lateness=lateness), list(offline)
    for event in left:
        held, refused = push(of, held, [event])
        if not refused[0]:
            taken.append(event)
    check(of, held, latest(taken))
    again, _ = push(of, held, taken[first:], arrived=99)
    assert encode_states(plan_of(of), again[1]) == encode_states(plan_of(of), held[1])
    check(of, build(of, versions, lateness=lateness, kept=held[1]), latest(versions))


@settings(max_examples=15)
@given(st.data(), st.integers(0, 300), st.integers(-100, 300))
def test_a_rebuild_keeps_what_was_pushed_since(data, lateness, known_after):
    """Built again of what offline knows, and merged with fresher events, nothing is lost."""
    of = data.draw(views())
    found = data.draw(events(of))
    held, refused = push(of, none(of), found)
    assert not refused.any()
    offline = [event for event in found if event["known"] <= known_after]
    half = build(of, offline, lateness=lateness, kept=held[1])
    assert half[1].event_counts.sum() == len(found) - len(offline)
    check(of, half, found)
    whole = build(of, found, lateness=lateness, kept=half[1])
    assert not whole[1].present.any()
    check(of, whole, found)


@settings(max_examples=15)
@given(st.data())
def test_columns_of_answers_have_the_features_dtypes(data):
    """An answer as a column has the declared dtype, and is null where there is no value."""
    of = data.draw(views())
    found = data.draw(events(of, most=4))
    states, _ = build(of, found)
    for one, (shown, valid) in zip(of.features, served(of, states, 1000), strict=True):
        found = column(one, (shown, valid))
        assert found.dtype == SCALARS[one.dtype]
        assert found.is_not_null().to_list() == valid.tolist()


HUGE = (*FLOATS, 1e308, -1e308, 1.7e154, 5e-324, -3e-310, 2.0**-700, 2.0**53 + 2)


@settings(max_examples=60)
@given(st.data(), st.integers(0, 200))
def test_states_answer_as_training_does(data, lateness):
    """Whatever was folded, windows have the bits that the training kernel gives them."""
    of = data.draw(views())
    found = data.draw(events(of, extremes=HUGE))
    states, _ = build(of, found, lateness=lateness)
    ordered = sorted(found, key=lambda event: (event["owner"], order(event)))
    counts = np.bincount(owners(ordered), minlength=OWNERS)
    known = Events(
        starts=np.append(0, np.cumsum(counts)),
        event=np.array([event["event"] for event in ordered], np.int64),
        known=np.array([event["known"] for event in ordered], np.int64),
        gone=None,
    )
    rows, numbers = frame(of, ordered), np.arange(OWNERS)
    asked = [Asked(window=one.window, input=input_name(one), name=one.name) for one in of.features]
    newest = max((event["known"] for event in found), default=0)
    for at in (newest, newest + 44, newest + 200):
        trained = window_values(known, numbers, np.full(OWNERS, at), asked, rows.select)
        for one, there, answered in zip(of.features, trained, served(of, states, at), strict=True):
            shown = column(one, answered)
            assert same_bits(shown, there).all(), (one.name, shown.to_list(), there.to_list())
