"""Window states of the online store: made of offline rows, with what was pushed since beside them.

A state keeps events at or after its horizon whole. Of older ones it keeps the bare inputs, or folds
them into tiles, whose width at a moment divides the `every` of all windows that still cover it. So
each window of any moment, from the newest known-at on, is a run of older ones and then of events,
and nothing is written as time passes.

What was pushed is kept beside a state, however old it is, until one is built of rows that have it:
no push touches a state, and building it again loses nothing. Of versions of one event only the
greatest counts. A pushed row is refused if it lies before the horizon, or if it is a version of an
older event: the state must be built again.
"""

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.events import records, winners
from featurestore.engine.fold import folded
from featurestore.engine.parts import bare_of, every_column, joined, taken
from featurestore.engine.spans import identities
from featurestore.model.tiles import Integers, Plan, Records, States
from featurestore.model.time import BEGINNING, ENDING

Bools = NDArray[np.bool_]
FOLDED = 1_000
"""How many older events of an entity are known by their numbers, at most: the latest."""


def built(
    plan: Plan,
    owners: int,
    rows: pl.DataFrame,
    owner: Integers,
    *,
    lateness: int,
    kept: States | None = None,
) -> tuple[States, States]:
    """Build the states of so many entities of all their offline rows, beside what was pushed.

    `rows` has event, created and known-at (UTC microseconds), revision, number and the inputs;
    `owner` is the number of each row's entity. `kept` is what was pushed so far; it comes back
    without what the rows have (of two equal versions offline's is taken). Events up to `lateness`
    microseconds before an entity's newest stay whole.
    """
    events = records(plan, rows, arrived=0)
    if kept is not None and len(kept.events):
        events = joined(kept.events, events)
        owner = np.concatenate([owners_of(kept.event_counts), owner])
    events, owner = winners(plan, events, owner)
    newest, horizon = _edges(events, owner, owners, lateness)
    pushed = events["arrived"] != 0
    left = _only(plan, owners, taken(events, pushed), owner[pushed])
    events, owner = taken(events, ~pushed), owner[~pushed]
    tails = _tails(plan, newest)
    reached = events["event"] >= tails.min(axis=0)[owner]
    old = events["event"] < horizon[owner]
    recent = ~old if plan.versions else ~old & reached
    state = _older(plan, tails, taken(events, old & reached), owner[old & reached])
    state = replace(
        state, events=taken(events, recent), event_counts=_counts(owner[recent], owners)
    )
    there = state.present
    newest, horizon = (np.where(there, one, BEGINNING) for one in (newest, horizon))
    return replace(state, newest=newest, horizon=horizon), left


def taken_in(
    plan: Plan, states: States, pushed: States, rows: pl.DataFrame, owner: Integers, *, arrived: int
) -> tuple[States, Bools]:
    """Take rows (as in `built`) to what was pushed; give all of that, and which were refused.

    Of `states` the horizon and the numbers of older events are looked at. A row that was pushed
    before, or a lesser version of one, changes nothing. `arrived` is when they are written, UTC
    microseconds, and not 0.
    """
    events = records(plan, rows, arrived=arrived)
    older = identities(owners_of(states.folded_counts), states.folded)
    refused = events["event"] < states.horizon[owner]
    refused |= np.isin(identities(owner, events["number"]), older)
    events = joined(taken(events, ~refused), pushed.events)
    owner = np.concatenate([owner[~refused], owners_of(pushed.event_counts)])
    return _only(plan, len(states), *winners(plan, events, owner)), refused


def beside(plan: Plan, states: States, pushed: States) -> States:
    """Give states with what was pushed among their events."""
    if not len(pushed.events):
        return states
    owner = [owners_of(one.event_counts) for one in (pushed, states)]
    events, whose = winners(plan, joined(pushed.events, states.events), np.concatenate(owner))
    return replace(
        states,
        newest=np.maximum(states.newest, pushed.newest),
        events=events,
        event_counts=_counts(whose, len(states)),
    )


def owners_of(counts: Integers) -> Integers:
    """Give the number of the entity that each of so many events (or tiles) belongs to."""
    return np.repeat(np.arange(len(counts)), counts)


def _edges(
    events: Records, owner: Integers, owners: int, lateness: int
) -> tuple[Integers, Integers]:
    """Give the newest known-at of entities, and from when on their events are kept whole."""
    newest, latest = np.full((2, owners), BEGINNING, np.int64)
    oldest = np.full(owners, ENDING, np.int64)
    if len(events):
        firsts = _runs(owner)
        whose = owner[firsts]
        newest[whose] = np.maximum.reduceat(events["known"], firsts)
        latest[whose] = np.maximum.reduceat(events["event"], firsts)
        pushed = np.where(events["arrived"] != 0, events["event"], ENDING)
        oldest[whose] = np.minimum.reduceat(pushed, firsts)
    latest = np.maximum(latest, BEGINNING + lateness)
    return newest, np.minimum(latest - lateness, oldest)


def _only(plan: Plan, owners: int, events: Records, owner: Integers) -> States:
    """Give states of nothing but events, in order."""
    newest = np.full(owners, BEGINNING, np.int64)
    if len(events):
        firsts = _runs(owner)
        newest[owner[firsts]] = np.maximum.reduceat(events["known"], firsts)
    counts = _counts(owner, owners)
    return replace(States.none(plan, owners), newest=newest, events=events, event_counts=counts)


def _older(plan: Plan, tails: Integers, events: Records, owner: Integers) -> States:
    """Give states of older events, in order and within reach: bare or in tiles, as is smaller."""
    owners, bare = tails.shape[1], bare_of(plan, events)
    start = _starts(plan, tails, events["event"], owner)
    sizes = _counts(owner, owners)
    tile_counts = _counts(owner[_runs(owner, start)], owners)
    light = sizes * plan.bare.itemsize <= tile_counts * plan.tile.itemsize
    alone = light[owner]
    numbers, number_counts = events["number"][:0].copy(), np.zeros(owners, np.int64)
    if plan.versions:
        after = np.cumsum(sizes)[owner] - np.arange(len(owner))
        numbers = events["number"][after <= FOLDED]
        number_counts = np.minimum(sizes, FOLDED)
    return replace(
        States.none(plan, owners),
        bare=taken(bare, alone),
        bare_counts=np.where(light, sizes, 0),
        tiles=_tiles(plan, taken(bare, ~alone), start[~alone], owner[~alone]),
        tile_counts=np.where(light, 0, tile_counts),
        folded=numbers,
        folded_counts=number_counts,
    )


def _starts(plan: Plan, tails: Integers, event: Integers, owner: Integers) -> Integers:
    """Give where the tile of each event begins: an edge of every window that may still cover it."""
    width = np.zeros(len(event), np.int64)
    for every in sorted({every for _, every in plan.spans}):
        tail = tails[[of == every for _, of in plan.spans]].min(axis=0)
        width = np.gcd(width, np.where(tail[owner] <= event, every, 0))
    starts: Integers = event - event % np.maximum(width, 1)
    return starts


def _tiles(plan: Plan, bare: Records, start: Integers, owner: Integers) -> Records:
    """Fold events of one entity and start into one tile each."""
    if not len(bare):
        return np.empty(0, plan.tile)
    firsts, columns = _runs(owner, start), every_column(plan)
    parts = columns.parts(np.empty(0, plan.tile), bare)
    return columns.records(start[firsts], folded(columns, parts, firsts))


def _tails(plan: Plan, newest: Integers) -> Integers:
    """Give the first moment that each kind of window covers at each moment, one row a kind."""
    # Whatever lies before the least is before all windows' reach; int64 must not wrap.
    spans = np.array(plan.spans, np.int64)
    least = BEGINNING + int(spans.sum(axis=1).max())
    tails: Integers = np.maximum(newest, least)[None, :] - spans[:, :1]
    return tails - tails % spans[:, 1:]


def _counts(owner: Integers, owners: int) -> Integers:
    return np.bincount(owner, minlength=owners).astype(np.int64)


def _runs(*columns: Integers) -> Integers:
    """Give where runs of rows begin that are equal in all columns."""
    new = np.zeros(len(columns[0]), np.bool_)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)
