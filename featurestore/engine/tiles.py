"""Window features of the online store: states that rows are merged into, and what they answer.

A state keeps events at or after its horizon one by one; older ones are folded into tiles, whose
width at a moment divides the `every` of all windows that still cover it. So each window of any
moment, from the newest known-at on, is a run of tiles and then of events, and nothing is written as
time passes. Rows older than the horizon are refused: the state must be built again.

What was pushed is kept one by one until the state is built of rows that have it, however old it is:
building a state again loses nothing. Of versions of one event that both stand in the events zone
only the greatest is kept. A version whose other version is in a tile already, or that moved before
the horizon, is not seen as such.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.fold import folded
from featurestore.engine.parts import every_column, joined, lifted, taken
from featurestore.model.tiles import NO_CREATED, Integers, Plan, Records, States
from featurestore.model.time import BEGINNING, CREATED, ENDING, EVENT, KNOWN, REVISION
from featurestore.model.windows import NUMBER

Bools = NDArray[np.bool_]
_SPREAD = np.uint64(0x9E37_79B9_7F4A_7C15)
_LARGEST = 2**63 - 1


def built(
    plan: Plan,
    owners: int,
    rows: pl.DataFrame,
    owner: Integers,
    *,
    lateness: int,
    kept: States | None = None,
) -> States:
    """Build the states of so many entities of all their offline rows, and events kept from online.

    `rows` has event, created and known-at (UTC microseconds), revision, number and the inputs;
    `owner` is the number of each row's entity. Of two equal versions offline's is taken. Events up
    to `lateness` microseconds before an entity's newest are kept one by one, and those that were
    pushed and are not among the rows.
    """
    events = _events(plan, rows, arrived=0)
    if kept is not None and len(kept.events):
        events = joined(kept.events, events)
        owner = np.concatenate([_owners(kept.event_counts), owner])
    nothing = States.none(plan, owners)
    return _with(plan, nothing, *_winners(plan, events, owner), lateness=lateness)


def merged(
    plan: Plan, states: States, rows: pl.DataFrame, owner: Integers, *, lateness: int, arrived: int
) -> tuple[States, Bools]:
    """Merge rows that were pushed (as in `built`); give the states and which rows were refused.

    Refused are rows with an event before its entity's horizon as it was. A row that is there
    already, or a lesser version of one, changes nothing. `arrived` is when they are written, UTC
    microseconds.
    """
    events = _events(plan, rows, arrived=arrived)
    refused = events["event"] < states.horizon[owner]
    events = joined(taken(events, ~refused), states.events)
    owner = np.concatenate([owner[~refused], _owners(states.event_counts)])
    return _with(plan, states, *_winners(plan, events, owner), lateness=lateness), refused


def fresh(states: States) -> States:
    """Give states of only the events that were pushed and no table was seen to have."""
    events = states.events
    kept = events["arrived"] != 0
    counts = np.bincount(_owners(states.event_counts)[kept], minlength=len(states))
    return replace(
        states,
        event_counts=counts.astype(np.int64),
        tile_counts=np.zeros(len(states), np.int64),
        events=taken(events, kept),
        tiles=states.tiles[:0],
    )


def _with(plan: Plan, before: States, events: Records, owner: Integers, *, lateness: int) -> States:
    """Give states with other events, in order, moved on to the newest of them; tiles as before."""
    newest, latest = before.newest.copy(), np.full(len(before), BEGINNING + lateness)
    oldest = np.full(len(before), ENDING, np.int64)
    if len(events):
        event, known = events["event"].copy(), events["known"].copy()
        firsts = _runs(owner)
        whose = owner[firsts]
        newest[whose] = np.maximum(newest[whose], np.maximum.reduceat(known, firsts))
        latest[whose] = np.maximum(latest[whose], np.maximum.reduceat(event, firsts))
        open_ones = np.where(events["arrived"] != 0, event, ENDING)
        oldest[whose] = np.minimum.reduceat(open_ones, firsts)
    horizon = np.maximum(np.minimum(latest - lateness, oldest), before.horizon)
    tails = _tails(plan, newest)
    old = events["event"] < horizon[owner]
    tiles, tile_counts = _tiled(plan, before, tails, taken(events, old), owner[old])
    left = ~old
    if not plan.versions:
        left &= events["event"] >= tails.min(axis=0)[owner]
    events, owner = taken(events, left), owner[left]
    counts = np.bincount(owner, minlength=len(before)).astype(np.int64)
    there = (counts + tile_counts) > 0
    return States(
        newest=np.where(there, newest, BEGINNING),
        horizon=np.where(there, horizon, BEGINNING),
        event_counts=counts,
        tile_counts=tile_counts,
        events=events,
        tiles=tiles,
    )


def _tiled(
    plan: Plan, before: States, tails: Integers, events: Records, owner: Integers
) -> tuple[Records, Integers]:
    """Fold events into the tiles of states, and these into as wide ones as windows allow."""
    tiles = joined(before.tiles, lifted(plan, events))
    owner = np.concatenate([_owners(before.tile_counts), owner])
    start = tiles["start"].copy()
    width = np.zeros(len(tiles), np.int64)
    for every in sorted({every for _, every in plan.spans}):
        tail = tails[[of == every for _, of in plan.spans]].min(axis=0)
        here = np.where(tail[owner] <= start, every, 0)
        width = np.gcd(width, here) if width.any() else here
    start -= start % np.maximum(width, 1)
    # Of one entity, tiles begin before all events that are folded into them: this order is by time.
    order = np.argsort(owner, kind="stable")
    order = order[width[order] > 0]
    owner, start, tiles = owner[order], start[order], taken(tiles, order)
    tiles["start"] = start
    firsts = _runs(owner, start)
    counts = np.bincount(owner[firsts], minlength=len(before)).astype(np.int64)
    if len(firsts) == len(tiles):
        return tiles, counts
    sizes = np.diff(firsts, append=len(tiles))
    many = sizes > 1
    found, columns = taken(tiles, firsts), every_column(plan)
    ends = np.cumsum(sizes[many])
    parts = columns.parts(taken(tiles, np.repeat(many, sizes)), events[:0])
    found[many] = columns.records(found["start"][many], folded(columns, parts, ends - sizes[many]))
    return found, counts


def _tails(plan: Plan, newest: Integers) -> Integers:
    """Give the first moment that each kind of window covers at each moment, one row a kind."""
    # Whatever lies before the least is before all windows' reach; int64 must not wrap.
    spans = np.array(plan.spans, np.int64)
    least = BEGINNING + int(spans.sum(axis=1).max())
    tails: Integers = np.maximum(newest, least)[None, :] - spans[:, :1]
    return tails - tails % spans[:, 1:]


def _winners(plan: Plan, events: Records, owner: Integers) -> tuple[Records, Integers]:
    """Give the greatest version of each event, by (entity, event, created, revision, number).

    Among equals an event that is offline wins, then the greater bytes, then the later place.
    """
    several = _several(owner, events["number"])
    if several.any():
        places = np.flatnonzero(several)
        best = places[_best(plan, taken(events, places), owner[places])]
        kept = np.concatenate([np.flatnonzero(~several), best])
        events, owner = taken(events, kept), owner[kept]
    order = _in_time(events, owner)
    return taken(events, order), owner[order]


def _several(owner: Integers, number: Integers) -> Bools:
    """Say which events may not be the only ones of their entity and number; most are."""
    mixed = owner.astype(np.uint64) * _SPREAD + number.astype(np.uint64)
    ordered = np.sort(mixed)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.isin(mixed, again) if len(again) else np.zeros(len(mixed), np.bool_)


def _best(plan: Plan, events: Records, owner: Integers) -> Integers:
    """Give the places of the greatest version of each event, by event."""
    names = ("number",) if plan.versions else ("event", "created", "number")
    order = np.lexsort((*(events[name] for name in reversed(names)), owner))
    same = owner[order][1:] == owner[order][:-1]
    for name in names:
        column = events[name][order]
        same &= column[1:] == column[:-1]
    return _greatest(plan, events, order, same) if same.any() else order


def _in_time(events: Records, owner: Integers) -> Integers:
    """Give the places of events by (entity, event, created, revision, number)."""
    event = events["event"].copy()
    first, last = int(event.min(initial=ENDING)), int(event.max(initial=BEGINNING))
    span = max(last - first + 1, 1)
    if (int(owner.max(initial=0)) + 1) * span < _LARGEST:
        # As one number, and nearly in order already: a tenth of the time.
        key = owner * span + (event - first)
        order = np.argsort(key, kind="stable")
        if (np.diff(key[order]) > 0).all():
            return order
    keys = ("number", "revision", "created", "event")
    return np.lexsort((*(events[name] for name in keys), owner))


def _greatest(plan: Plan, events: Records, order: Integers, same: Bools) -> Integers:
    """Give the places, in an order by event, of the greatest of each run of the same event."""
    group = np.concatenate([[0], np.cumsum(~same)])
    offset = plan.event.fields["valid"][1]  # type: ignore[index]
    found = taken(events, order)
    cells = found.view(np.uint8).reshape(len(order), -1)
    inputs = np.ascontiguousarray(cells[:, offset:]).view(f"S{cells.shape[1] - offset}")[:, 0]
    keys = (order, inputs, found["arrived"] == 0)
    within = np.lexsort((*keys, found["event"], found["revision"], found["created"], group))
    last = np.append(np.flatnonzero(np.diff(group[within])), len(order) - 1)
    greatest: Integers = order[within[last]]
    return greatest


def _events(plan: Plan, rows: pl.DataFrame, *, arrived: int) -> Records:
    events = np.zeros(rows.height, plan.event)
    events["event"], events["known"] = _numbers(rows[EVENT]), _numbers(rows[KNOWN])
    events["created"] = np.where(_valid(rows[CREATED]), _numbers(rows[CREATED]), NO_CREATED)
    events["revision"], events["number"] = rows[REVISION].to_numpy(), rows[NUMBER].to_numpy()
    events["arrived"] = arrived
    valid = np.empty((rows.height, len(plan.columns)), np.bool_)
    for dtype, places in plan.values.items():
        for at, place in enumerate(places):
            column = rows[plan.columns[place].name]
            valid[:, place] = _valid(column)
            events[dtype][:, at] = _numbers(column)
    events["valid"] = np.packbits(valid, axis=1, bitorder="little")
    return events


# Each method of a series that Polars runs as a query takes as long as copying thousands of numbers.
def _valid(column: pl.Series) -> NDArray[np.bool_] | bool:
    return column.is_not_null().to_numpy() if column.null_count() else True


def _numbers(column: pl.Series) -> NDArray[Any]:
    """Give numbers as they are, days of dates and microseconds of datetimes; null is zero."""
    if column.null_count():
        column = column.to_physical().fill_null(strategy="zero")
    values = column.to_numpy()
    return values.view(np.int64) if values.dtype.kind == "M" else values


def _runs(*columns: Integers) -> Integers:
    """Give where runs of rows begin that are equal in all columns."""
    new = np.zeros(len(columns[0]), np.bool_)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def _owners(counts: Integers) -> Integers:
    return np.repeat(np.arange(len(counts)), counts)
