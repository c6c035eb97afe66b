"""Window features of one part: what its events give at the moments of entity rows."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from featurestore.engine.spans import Events, superseded
from featurestore.engine.windows import asked_of, window_values
from featurestore.model.documents import Feature, View
from featurestore.model.tiles import Integers
from featurestore.model.time import CREATED, REVISION
from featurestore.model.windows import NUMBER, numbered
from featurestore.training.join import Found, Read, Timeline, moments


def events_of(line: Timeline, read: Read, view: View, *, as_known: bool) -> Events:
    """Give the events of a part by rank, and how long each counts.

    With `as_known` an event counts from its known-at on, else from its own time on.
    """
    known = line.since if as_known else line.event
    gone = None
    if numbered(view):
        rows = _in_order(line, read((NUMBER, CREATED, REVISION)))
        gone = superseded(
            key=np.repeat(np.arange(len(line.starts) - 1), np.diff(line.starts)),
            number=rows[NUMBER].to_numpy(),
            created=moments(rows[CREATED]),
            revision=rows[REVISION].cast(pl.Int64).to_numpy(),
            event=line.event,
            known=known,
        )
    return Events(starts=line.starts, event=line.event, known=known, gone=gone)


def at_moments(
    line: Timeline,
    events: Events,
    read: Read,
    features: Sequence[Feature],
    found: Found,
    keys: Sequence[pl.Series],
    time: pl.Series,
) -> list[pl.Series]:
    """Give window features at entity rows' moments; of a null key or moment they are null."""

    def ordered(names: Sequence[str]) -> pl.DataFrame:
        return _in_order(line, read(names))

    values = window_values(events, found.key, moments(time), asked_of(features), ordered)
    told = [column for column in (*keys, time) if column.null_count()]
    if not told:
        return values
    there = np.logical_and.reduce([column.is_not_null().to_numpy() for column in told])
    mask = pl.Series(there)
    return [pl.select(pl.when(mask).then(one)).to_series().alias(one.name) for one in values]


def _in_order(line: Timeline, rows: pl.DataFrame) -> pl.DataFrame:
    return rows if line.row is None else rows[_numbers(line.row)]


def _numbers(row: Integers) -> pl.Series:
    return pl.Series(row.astype(np.uint32))
