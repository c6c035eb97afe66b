"""What a run changes: which of its rows the table holds already, and the revision of each."""

import numpy as np
import polars as pl

from featurestore.model.documents import View
from featurestore.model.time import KNOWN, REVISION, Interval
from featurestore.model.windows import row_identity, stored_features
from featurestore.storage.bits import same_bits

_BEFORE = "__before"


def revise(
    view: View, before: pl.DataFrame, rows: pl.DataFrame
) -> tuple[pl.DataFrame, Interval | None]:
    """Give a run's rows their revisions, and the interval in which the table holds others.

    `before` is what the table holds of the run's interval; both are unique in keys and times. A row
    that stood there with the same bits keeps its revision; one whose values moved under the same
    key and times gets the next; a new one begins at 0. The interval (None: the table holds just
    these) is the shortest that holds all that is new, moved or gone: what a run reads again, and
    finds as it was, is not written again.
    """
    if before.is_empty():
        first = pl.repeat(0, rows.height, dtype=pl.UInt32, eager=True)
        return rows.with_columns(first.alias(REVISION)), _around(rows[KNOWN])
    identity = row_identity(view)
    places = before.select(*identity, REVISION).with_row_index(_BEFORE)
    held = rows.select(identity).join(
        places, on=identity, how="left", nulls_equal=True, maintain_order="left"
    )
    again, old = held[_BEFORE].is_not_null().arg_true(), held[_BEFORE].drop_nulls()
    moved = np.zeros(len(again), np.bool_)
    for feature in stored_features(view):
        was, now = before[feature.name].gather(old), rows[feature.name].gather(again)
        moved |= ~same_bits(was, now).to_numpy()
    revision = held[REVISION].fill_null(0).to_numpy().copy()
    revision[again.to_numpy()[moved]] += 1
    stays = np.zeros(rows.height, np.bool_)
    stays[again.to_numpy()[~moved]] = True
    gone = np.ones(before.height, np.bool_)
    gone[old.to_numpy()] = False
    touched = pl.concat([rows[KNOWN].filter(~stays), before[KNOWN].filter(gone)])
    return rows.with_columns(pl.Series(REVISION, revision, dtype=pl.UInt32)), _around(touched)


def _around(known: pl.Series) -> Interval | None:
    """Give the shortest interval that holds some moments, None if there are none."""
    moments = known.to_physical()
    if moments.is_empty():
        return None
    return Interval(start=int(moments.min()) - 1, end=int(moments.max()))  # type: ignore[arg-type]
