"""Events of window states as records: made of rows, in order, and of versions the greatest."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.parts import taken
from featurestore.engine.spans import identities
from featurestore.model.tiles import NO_CREATED, Integers, Plan, Records
from featurestore.model.time import BEGINNING, CREATED, ENDING, EVENT, KNOWN, REVISION
from featurestore.model.windows import NUMBER

Bools = NDArray[np.bool_]
_LARGEST = 2**63 - 1


def records(plan: Plan, rows: pl.DataFrame, *, arrived: int) -> Records:
    """Give rows as records: those of `engine.rows.computed_rows`, with a revision and a number.

    `arrived` is when they were pushed, UTC microseconds; 0 says that a table has them.
    """
    events = np.zeros(rows.height, plan.event)
    events["event"], events["known"] = _numbers(rows[EVENT]), _numbers(rows[KNOWN])
    events["created"] = NO_CREATED
    created = rows[CREATED]
    if created.null_count() < rows.height:
        events["created"] = np.where(_valid(created), _numbers(created), NO_CREATED)
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


def winners(plan: Plan, events: Records, owner: Integers) -> tuple[Records, Integers]:
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
    mixed = identities(owner, number)
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


# Each method of a series that Polars runs as a query takes as long as copying thousands of numbers.
def _valid(column: pl.Series) -> NDArray[np.bool_] | bool:
    return column.is_not_null().to_numpy() if column.null_count() else True


def _numbers(column: pl.Series) -> NDArray[Any]:
    """Give numbers as they are, days of dates and microseconds of datetimes; null is zero."""
    if column.null_count():
        column = column.to_physical().fill_null(strategy="zero")
    values = column.to_numpy()
    return values.view(np.int64) if values.dtype.kind == "M" else values
