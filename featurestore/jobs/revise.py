"""What a run changes: which of its rows the table holds already, and the revision of each."""

import numpy as np
import polars as pl

from featurestore.model.documents import View
from featurestore.model.time import CREATED, EVENT, REVISION
from featurestore.storage.bits import same_bits


def revise(view: View, before: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """Give a run's rows their revisions, and say if the table holds just these already.

    `before` is what the table holds of the run's interval; both are unique in keys and times. A row
    that stood there with the same bits keeps its revision; one whose values moved under the same
    key and times gets the next; a new one begins at 0.
    """
    if before.is_empty():
        first = pl.repeat(0, rows.height, dtype=pl.UInt32, eager=True)
        return rows.with_columns(first.alias(REVISION)), rows.is_empty()
    identity = [*(key.name for key in view.join_keys), EVENT, CREATED]
    places = before.select(*identity, REVISION).with_row_index("__before")
    held = rows.select(identity).join(
        places, on=identity, how="left", nulls_equal=True, maintain_order="left"
    )
    new, old = held["__before"].is_not_null().arg_true(), held["__before"].drop_nulls()
    moved = np.zeros(len(new), np.bool_)
    for feature in view.features:
        was, now = before[feature.name].gather(old), rows[feature.name].gather(new)
        moved |= ~same_bits(was, now).to_numpy()
    revision = held[REVISION].fill_null(0).to_numpy().copy()
    revision[new.to_numpy()[moved]] += 1
    same = before.height == rows.height == len(new) and not moved.any()
    return rows.with_columns(pl.Series(REVISION, revision, dtype=pl.UInt32)), same
