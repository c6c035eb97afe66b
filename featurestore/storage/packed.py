"""Computed rows as Redis keeps them: of each key the newest, under its canonical key, packed."""

import numpy as np
import polars as pl

from featurestore.model.documents import View
from featurestore.model.time import CREATED, EVENT, REVISION
from featurestore.model.windows import NUMBER, row_order
from featurestore.storage.decoded import Decoded, Times
from featurestore.storage.keys import canonical_keys
from featurestore.storage.rows import layout_of


def latest(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Give each key's row with the greatest (event, created, revision), by key."""
    if rows.height <= 1:
        return rows
    keys = [k.name for k in view.join_keys]
    order = rows.select(pl.arg_sort_by(row_order(view))).to_series()
    if not keys:
        return rows[order.tail(1)]
    sorted_keys = rows.select(keys)[order]
    last = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift(-1)) for key in keys)
    return rows[order.filter(sorted_keys.select(last).to_series())]


def pack(view: View, rows: pl.DataFrame) -> list[bytes]:
    """Give the packed rows as Redis stores them."""
    return layout_of(view).encode(rows, *header(rows))


def row_keys(view: View, rows: pl.DataFrame) -> list[bytes]:
    """Give the canonical keys of stored rows, none of which has a null key."""
    return [key for key in canonical_keys(rows, view.join_keys) if key is not None]


def known_times(view: View, decoded: Decoded) -> Times:
    """Give when each decoded row became known, UTC microseconds; meaningless where none is."""
    known: Times = decoded.event_time + view.delay if view.delay else decoded.event_time
    if view.known_at == "created" and decoded.heads["created"].any():
        created, said = decoded.created
        known = np.where(said, np.maximum(known, created), known)
    return known


def header(rows: pl.DataFrame) -> list[pl.Series]:
    """Give the times, revisions and (with windows) numbers of stored rows."""
    return [rows[name] for name in (EVENT, CREATED, REVISION, NUMBER) if name in rows.columns]
