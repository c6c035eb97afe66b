"""Entities that were pushed to since their table was brought up to date: Redis knows more of them.

Nothing can be proven of these until the next materialization, which reads what was pushed.
"""

import numpy as np
import polars as pl

from featurestore.errors import CorruptData
from featurestore.jobs.tables import Place
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import View
from featurestore.model.windows import windows
from featurestore.serving.states import layout
from featurestore.storage.keys import canonical_keys, states_of
from featurestore.storage.packed import known_times
from featurestore.storage.rows import layout_of
from featurestore.storage.states import decode_states


def takes_pushes(view: View) -> bool:
    """Say whether rows may be pushed to a view's source."""
    return view.source is not None and view.source.pushed


def ahead(workspace: Workspace, view: View, place: Place, keys: pl.DataFrame) -> pl.Series:
    """Say of each entity whether Redis holds something known after its table's watermark.

    Damaged rows are not ahead: they are found to differ.
    """
    found = np.zeros(keys.height, np.bool_)
    if takes_pushes(view):
        canonical = canonical_keys(keys, view.join_keys)
        there = np.array([key is not None for key in canonical], np.bool_)
        known = [key for key in canonical if key is not None]
        online, table = workspace.online(), place.table.id
        found[there] = _rows(view, online.values(table, known), place.watermark)
        if windows(view):
            found[there] |= _states(view, online.values(states_of(table), known), place.watermark)
    return pl.Series(found)


def _rows(
    view: View, packed: list[bytes | None], watermark: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    try:
        decoded = layout_of(view).decode(packed)
    except CorruptData:
        return np.zeros(len(packed), np.bool_)
    return decoded.present & (known_times(view, decoded) > watermark)


def _states(
    view: View, packed: list[bytes | None], watermark: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    try:
        return decode_states(layout(view), packed).newest > watermark
    except CorruptData:
        return np.zeros(len(packed), np.bool_)
