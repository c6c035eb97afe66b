"""Window states in Redis: read, changed and written back, whoever else writes meanwhile."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.tiles import merged
from featurestore.errors import CorruptData, Unavailable
from featurestore.model.documents import View
from featurestore.model.tiles import Integers, Plan, States, plan_of
from featurestore.storage.keys import canonical_keys, states_of
from featurestore.storage.redis import OnlineStore
from featurestore.storage.states import decode_states, encode_states, head

_OWNER = "__owner"

_AT_ONCE = 512
"""Entities whose states are read, and written back, at one time: Redis does nothing else then."""

Change = Callable[[States, Integers], States]
"""Gives new states for those found, of the entities at some places."""

_ATTEMPTS = 50
"""How often a write is tried again that another one came before: each time one of them gets on."""


@lru_cache(maxsize=1024)
def layout(view: View) -> Plan:
    """Give how a view's window states are laid out."""
    return plan_of(view)


def change_states(
    store: OnlineStore,
    view: View,
    table: str,
    canonical: Sequence[bytes],
    change: Change,
    *,
    expire_ms: int | None,
    anew: bool = False,
) -> int:
    """Change the states of entities, each as a whole; give how many have another one now.

    `change` may be asked again for those that somebody else changed meanwhile, and so must depend
    on what it is given only. With `anew` damaged states count as none.

    Raises:
        CorruptData: a state is not what was written.
        Unavailable: Redis cannot be reached, or others never leave off writing.
    """
    every = np.arange(len(canonical))
    some = (every[start : start + _AT_ONCE] for start in range(0, len(every), _AT_ONCE))
    return sum(
        _change_some(store, view, table, canonical, change, places, expire_ms=expire_ms, anew=anew)
        for places in some
    )


def _change_some(
    store: OnlineStore,
    view: View,
    table: str,
    canonical: Sequence[bytes],
    change: Change,
    places: Integers,
    *,
    expire_ms: int | None,
    anew: bool,
) -> int:
    """Change the states of the entities at some places."""
    plan, name, changed = layout(view), states_of(table), 0
    for _ in range(_ATTEMPTS):
        keys = [canonical[place] for place in places.tolist()]
        before = store.values(name, keys)
        after = encode_states(plan, change(_decoded(plan, before, anew=anew), places))
        written = store.exchange(name, keys, list(map(head, before)), after, expire_ms=expire_ms)
        done = np.array(written, np.bool_)
        moved = (was != now for was, now in zip(before, after, strict=True))
        changed += int((np.fromiter(moved, np.bool_, len(keys)) & done).sum())
        places = places[~done]
        if not len(places):
            return changed
    raise Unavailable(
        f"{view.name}: window states of {len(places)} entities were changed by others each time "
        "they were read; push in larger batches, or from fewer processes"
    )


def push_states(
    store: OnlineStore,
    view: View,
    table: str,
    rows: pl.DataFrame,
    *,
    now: int,
    expire_ms: int | None,
) -> int:
    """Merge computed rows into their entities' states; give how many came too late for that.

    Those have an event before what a state keeps one by one: they change windows when the table
    holds them. A row that is there already changes nothing.

    Raises:
        CorruptData, Unavailable: as `change_states` says.
    """
    plan, late = layout(view), np.zeros(rows.height, np.bool_)
    keys, owner = entities_of(rows, view)

    def change(found: States, places: Integers) -> States:
        mine, number = among(owner, places, keys.height)
        some = rows if mine.all() else rows.filter(pl.Series(mine))
        merged_ones, refused = merged(plan, found, some, number, lateness=view.settle, arrived=now)
        late[mine] = refused
        return merged_ones

    canonical = [key for key in canonical_keys(keys, view.join_keys) if key is not None]
    change_states(store, view, table, canonical, change, expire_ms=expire_ms)
    return int(late.sum())


def entities_of(rows: pl.DataFrame, view: View) -> tuple[pl.DataFrame, Integers]:
    """Give the entities of rows, and the number of each row's; a view without keys has one."""
    names = [key.name for key in view.join_keys]
    if not names:
        return pl.DataFrame({"": [0]}), np.zeros(rows.height, np.int64)
    keys = rows.select(names)
    if rows.height <= 1:
        return keys, np.zeros(rows.height, np.int64)
    keys = keys.unique(maintain_order=True)
    owner = rows.select(names).join(
        keys.with_row_index(_OWNER), on=names, how="left", maintain_order="left"
    )
    return keys, owner[_OWNER].cast(pl.Int64).to_numpy()


def among(owner: Integers, places: Integers, entities: int) -> tuple[NDArray[np.bool_], Integers]:
    """Give which rows belong to entities at some places, and for each the number of its place."""
    number = np.full(entities, -1, np.int64)
    number[places] = np.arange(len(places))
    mine = number[owner] >= 0
    return mine, number[owner[mine]]


def _decoded(plan: Plan, packed: Sequence[bytes | None], *, anew: bool) -> States:
    try:
        return decode_states(plan, packed)
    except CorruptData:
        if not anew:
            raise
    return decode_states(plan, [_sound(plan, one) for one in packed])


def _sound(plan: Plan, packed: bytes | None) -> bytes | None:
    """Give a state that can be read, None for another."""
    try:
        decode_states(plan, [packed])
    except CorruptData:
        return None
    return packed
