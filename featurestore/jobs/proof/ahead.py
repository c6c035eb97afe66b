"""Entities that were pushed to since their table was brought up to date: Redis knows more of them.

Nothing can be proven of these until the next materialization, which reads what was pushed.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.errors import CorruptData
from featurestore.jobs.proof.trial import MATCH, Trial
from featurestore.jobs.tables import Place
from featurestore.model.documents import View
from featurestore.model.reads import takes_pushes
from featurestore.model.time import BEGINNING, CREATED, EVENT
from featurestore.model.windows import windows
from featurestore.serving.push.states import layout
from featurestore.storage.keys import canonical_keys, pushed_of, states_of
from featurestore.storage.packed import known_times
from featurestore.storage.rows import layout_of
from featurestore.storage.states import decode_states

Bools = NDArray[np.bool_]


def ahead(trial: Trial, view: View, place: Place, keys: pl.DataFrame) -> pl.Series:
    """Say of each entity whether Redis holds something that its table does not have yet.

    That is what is known after the watermark, a row newer than the table's, or a pushed event that
    the table was not seen to have. Damaged bytes are not ahead: they are found to differ.
    """
    found = np.zeros(keys.height, np.bool_)
    if not takes_pushes(view):
        return pl.Series(found)
    canonical = canonical_keys(keys, view.join_keys)
    there = np.array([key is not None for key in canonical], np.bool_)
    known = [key for key in canonical if key is not None]
    online, table = trial.workspace.online(), place.table.id
    on = [*(key.name for key in view.join_keys), MATCH]
    stored = keys.select(on).join(
        trial.newest(view, place), on=on, how="left", maintain_order="left"
    )
    found[there] = _rows(view, online.values(table, known), place, stored.filter(pl.Series(there)))
    if windows(view):
        states, pushed = (online.values(of(table), known) for of in (states_of, pushed_of))
        found[there] |= _states(view, states, pushed, place)
    return pl.Series(found)


def _rows(view: View, packed: list[bytes | None], place: Place, stored: pl.DataFrame) -> Bools:
    try:
        decoded = layout_of(view).decode(packed)
    except CorruptData:
        return np.zeros(len(packed), np.bool_)
    event, created = (stored[name].fill_null(BEGINNING).to_numpy() for name in (EVENT, CREATED))
    made, said = decoded.created
    later = np.where(said, made, BEGINNING) > created
    newer = (decoded.event_time > event) | ((decoded.event_time == event) & later)
    fresh: Bools = decoded.present & (newer | (known_times(view, decoded) > place.watermark))
    return fresh


def _states(
    view: View, packed: list[bytes | None], pushed: list[bytes | None], place: Place
) -> Bools:
    try:
        states, lately = (decode_states(layout(view), one) for one in (packed, pushed))
    except CorruptData:
        return np.zeros(len(packed), np.bool_)
    fresh: Bools = lately.present | (states.newest > place.watermark)
    return fresh
