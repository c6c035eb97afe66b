"""Window states in Redis: read, changed and written back, whoever else writes meanwhile."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from featurestore.errors import CorruptData, Unavailable
from featurestore.model.documents import View
from featurestore.model.tiles import Integers, Plan, States, plan_of
from featurestore.storage.keys import states_of
from featurestore.storage.redis import OnlineStore
from featurestore.storage.states import decode_states, encode_states, head

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
    plan, name = layout(view), states_of(table)
    places, changed = np.arange(len(canonical)), 0
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
