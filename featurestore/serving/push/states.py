"""Window states in Redis: built, and taken events to, whoever else writes meanwhile."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.tiles import taken_in
from featurestore.errors import CorruptData, Unavailable
from featurestore.model.documents import View
from featurestore.model.tiles import Integers, Plan, States, plan_of
from featurestore.storage.keys import canonical_keys, pushed_of
from featurestore.storage.redis import OnlineStore
from featurestore.storage.states import decode_states, encode_states, head

_OWNER = "__owner"

_AT_ONCE = 512
"""Entities whose states are read, and written back, at one time: Redis does nothing else then."""

Build = Callable[[States, Integers], tuple[States, States]]
"""Gives states of the entities at some places, and what is left of what was pushed to them."""

_ATTEMPTS = 50
"""How often a write is tried again that another one came before: each time one of them gets on."""


@lru_cache(maxsize=1024)
def layout(view: View) -> Plan:
    """Give how a view's window states are laid out."""
    return plan_of(view)


def build_states(
    store: OnlineStore,
    view: View,
    table: str,
    canonical: Sequence[bytes],
    build: Build,
    *,
    expire_ms: int | None,
) -> None:
    """Write the states of entities, each as a whole, beside what was pushed to them.

    `build` may be asked again for those that were pushed to meanwhile, and so must depend on what
    it is given only. What is damaged counts as nothing.

    Raises:
        Unavailable: Redis cannot be reached, or others never leave off writing.
    """
    plan, pushed = layout(view), pushed_of(table)

    def write(keys: list[bytes], places: Integers) -> list[bool]:
        before = store.values(pushed, keys)
        states, left = build(_sound(plan, before), places)
        new = zip(encode_states(plan, states), encode_states(plan, left), strict=True)
        expected = list(map(head, before))
        return store.put_states(table, keys, expected, list(new), expire_ms=expire_ms)

    _until_written(view, canonical, write)


def push_states(
    store: OnlineStore,
    view: View,
    table: str,
    rows: pl.DataFrame,
    *,
    now: int,
    expire_ms: int | None,
) -> int:
    """Take computed rows to what was pushed to their entities; give how many came too late.

    Those have an event before what a state keeps whole, or are versions of such a one: they change
    windows when the table holds them. A row that is there already changes nothing.

    Raises:
        CorruptData: a state is not what was written.
        Unavailable: as `build_states` says.
    """
    plan, late = layout(view), np.zeros(rows.height, np.bool_)
    keys, owner = entities_of(rows, view)

    def write(keys: list[bytes], places: Integers) -> list[bool]:
        fronts, before = store.fronts(table, keys)
        mine, number = among(owner, places, len(canonical))
        after, refused = taken_in(
            plan,
            decode_states(plan, fronts, only_fronts=True),
            decode_states(plan, before),
            rows if mine.all() else rows.filter(pl.Series(mine)),
            number,
            arrived=now,
        )
        late[mine] = refused
        expected = list(zip(map(head, fronts), map(head, before), strict=True))
        new = encode_states(plan, after)
        return store.put_pushed(table, keys, expected, new, expire_ms=expire_ms)

    canonical = [key for key in canonical_keys(keys, view.join_keys) if key is not None]
    _until_written(view, canonical, write)
    return int(late.sum())


def _until_written(
    view: View, canonical: Sequence[bytes], write: Callable[[list[bytes], Integers], list[bool]]
) -> None:
    """Write of some entities at a time, and again of those that others wrote of meanwhile."""
    for start in range(0, len(canonical), _AT_ONCE):
        places = np.arange(start, min(start + _AT_ONCE, len(canonical)))
        for _ in range(_ATTEMPTS):
            done = write([canonical[place] for place in places.tolist()], places)
            places = places[~np.array(done, np.bool_)]
            if not len(places):
                break
        else:
            raise Unavailable(
                f"{view.name}: window states of {len(places)} entities were changed by others each "
                "time they were read; push in larger batches, or from fewer processes"
            )


def entities_of(rows: pl.DataFrame, view: View) -> tuple[pl.DataFrame, Integers]:
    """Give the entities of rows, and the number of each row's; a view without keys has one."""
    names = [key.name for key in view.join_keys]
    if not names:
        return pl.DataFrame({"": [0]}), np.zeros(rows.height, np.int64)
    keys = rows[names]
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


def _sound(plan: Plan, packed: Sequence[bytes | None]) -> States:
    """Unpack states, with none where one is damaged."""
    try:
        return decode_states(plan, packed)
    except CorruptData:
        return decode_states(plan, [one if _reads(plan, one) else None for one in packed])


def _reads(plan: Plan, packed: bytes | None) -> bool:
    try:
        decode_states(plan, [packed])
    except CorruptData:
        return False
    return True
