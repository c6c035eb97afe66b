"""One row for each (key, event, created), or each with a number: what makes rows of a table unique.

Rows that share all of them are told apart by their canonical bytes, which know no order of rows.
"""

from collections.abc import Sequence

import polars as pl

from featurestore.model.documents import View
from featurestore.model.schema import Column
from featurestore.model.time import CREATED, EVENT
from featurestore.model.windows import (
    NUMBER,
    numbered,
    row_features,
    row_identity,
    stored_features,
    windows,
)
from featurestore.storage.rows import RowLayout, row_columns

_CANONICAL = "__canonical"


def unique(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Sort computed rows by key and time, and leave one of those that no question tells apart.

    That is the one with the greatest canonical bytes. Where windows count every row as an event,
    all stay, numbered in the order of their bytes.
    """
    if windows(view) and not numbered(view):
        return _counted(view, rows)
    if rows.height <= 1:
        return rows
    return _distinct(view, rows.sort(row_identity(view)))


def _distinct(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    identity = list(row_identity(view))
    twice = _tied(rows, identity)
    if not twice.any():
        return rows
    winners = _ordered(view, rows.filter(twice), identity).unique(
        identity, keep="last", maintain_order=True
    )
    return pl.concat([rows.filter(~twice), winners.drop(_CANONICAL)]).sort(identity)


def _counted(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Number the rows of each key and time from 0 in the order of their bytes."""
    together = [*(key.name for key in view.join_keys), EVENT, CREATED]
    rows = rows.sort(together)
    tied = _tied(rows, together)
    number = pl.lit(0, pl.Int64).alias(NUMBER)
    if not tied.any():
        return rows.with_columns(number)
    place = pl.int_range(pl.len(), dtype=pl.Int64).over(together).alias(NUMBER)
    again = _ordered(view, rows.filter(tied), together).drop(_CANONICAL).with_columns(place)
    alone = rows.filter(~tied).with_columns(number)
    return pl.concat([alone, again]).sort([*together, NUMBER])


def _tied(rows: pl.DataFrame, identity: list[str]) -> pl.Series:
    """Say of sorted rows which share all of some columns with one beside them."""
    if rows.height == 1:
        return pl.Series([False])
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in identity)
    again = rows.select(same).to_series()
    return again | again.shift(-1, fill_value=False)


def _ordered(view: View, rows: pl.DataFrame, identity: list[str]) -> pl.DataFrame:
    """Sort rows by some columns, then by their packed bytes, which come along."""
    return rows.with_columns(canonical(view, rows)).sort([*identity, _CANONICAL])


def canonical(view: View, rows: pl.DataFrame) -> pl.Series:
    """Give each row's packed bytes at revision 0: equal rows have equal bytes, and they order.

    What Redis keeps of a row comes first, so that its order there is the same; then the inputs of
    windows.
    """
    packed = _packed(row_columns(view), rows)
    inputs = [Column(name=o.name, dtype=o.dtype) for o in stored_features(view)][
        len(row_features(view)) :
    ]
    if inputs:
        packed = list(map(bytes.__add__, packed, _packed(inputs, rows)))
    return pl.Series(_CANONICAL, packed, dtype=pl.Binary)


def _packed(columns: Sequence[Column], rows: pl.DataFrame) -> list[bytes]:
    layout = RowLayout(columns=tuple(sorted(columns)))
    return layout.encode(rows, rows[EVENT], rows[CREATED], 0)
