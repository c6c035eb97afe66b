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

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.fold import folded
from featurestore.engine.parts import every_column, joined, lifted, taken
from featurestore.model.tiles import NO_CREATED, Integers, Plan, Records, States
from featurestore.model.time import BEGINNING, CREATED, ENDING, EVENT, KNOWN, REVISION
from featurestore.model.windows import NUMBER

Bools = NDArray[np.bool_]


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
    """Give states with other events, moved on to the newest of them; tiles as before."""
    newest, horizon = before.newest.copy(), before.horizon.copy()
    np.maximum.at(newest, owner, events["known"])
    np.maximum.at(horizon, owner, np.maximum(events["event"], BEGINNING + lateness) - lateness)
    open_ones = events["arrived"] != 0
    oldest = np.full(len(before), ENDING, np.int64)
    np.minimum.at(oldest, owner[open_ones], events["event"][open_ones])
    horizon = np.maximum(np.minimum(horizon, oldest), before.horizon)
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
    for (_, every), tail in zip(plan.spans, tails, strict=True):
        width = np.gcd(width, np.where(tail[owner] <= start, every, 0))
    start -= start % np.maximum(width, 1)
    # Of one entity, tiles begin before all events that are folded into them: this order is by time.
    order = np.argsort(owner, kind="stable")
    order = order[width[order] > 0]
    owner, start, tiles = owner[order], start[order], taken(tiles, order)
    tiles["start"] = start
    new = np.ones(len(tiles), np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (start[1:] != start[:-1])
    firsts = np.flatnonzero(new)
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
    names = ("number",) if plan.versions else ("event", "created", "number")
    order = np.lexsort((*(events[name] for name in reversed(names)), owner))
    same = owner[order][1:] == owner[order][:-1]
    for name in names:
        column = events[name][order]
        same &= column[1:] == column[:-1]
    if same.any():
        order = _greatest(plan, events, order, same)
    events, owner = taken(events, order), owner[order]
    keys = ("number", "revision", "created", "event")
    order = np.lexsort((*(events[name] for name in keys), owner))
    return taken(events, order), owner[order]


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
    events["event"] = rows[EVENT].to_physical().to_numpy()
    events["created"] = rows[CREATED].to_physical().fill_null(NO_CREATED).to_numpy()
    events["revision"] = rows[REVISION].to_numpy()
    events["number"] = rows[NUMBER].to_numpy()
    events["known"] = rows[KNOWN].to_physical().to_numpy()
    events["arrived"] = arrived
    valid = np.empty((rows.height, len(plan.columns)), np.bool_)
    for dtype, places in plan.values.items():
        for at, place in enumerate(places):
            column = rows[plan.columns[place].name]
            valid[:, place] = column.is_not_null().to_numpy()
            physical = column.to_physical() if column.dtype.is_temporal() else column
            whole = physical.cast(pl.UInt8) if dtype == "bool" else physical
            events[dtype][:, at] = whole.fill_null(strategy="zero").to_numpy()
    events["valid"] = np.packbits(valid, axis=1, bitorder="little")
    return events


def _owners(counts: Integers) -> Integers:
    return np.repeat(np.arange(len(counts)), counts)
