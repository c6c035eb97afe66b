"""Window states built from offline tables: those of all entities, or of some that a run changed."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import polars as pl

from featurestore.engine.tiles import built
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.tiles import Integers, States
from featurestore.model.time import (
    BEGINNING,
    CREATED,
    ENDING,
    EVENT,
    KNOWN,
    REVISION,
    Interval,
)
from featurestore.model.windows import NUMBER, input_name, windows
from featurestore.serving.push.states import among, build_states, entities_of, layout
from featurestore.storage.keys import bucket_of, canonical_keys
from featurestore.storage.layout import table_schema
from featurestore.storage.redis import OnlineStore

_AT_ONCE = 4_096
"""Entities whose states are made at one time."""


def rebuild_states(
    workspace: Workspace,
    view: View,
    table: Table,
    *,
    version: int | None,
    of: pl.DataFrame | None = None,
    since: int = BEGINNING,
    expire_ms: int | None,
    hold: Callable[[], None],
) -> None:
    """Build the window states of a table's entities, or of those with some keys.

    No event before `since` can count for any of them. Events that were pushed stay until the table
    has them. `hold` is called before each write.
    """
    online = workspace.online()
    write = partial(_write, online, view, table, expire_ms=expire_ms)
    names = [key.name for key in view.join_keys]
    seen = [pl.DataFrame() if of is None else of.select(names).clear()]
    for rows in _by_bucket(workspace, view, table, version, of, since):
        keys, owner = entities_of(rows, view)
        seen.append(keys)
        for start in range(0, keys.height, _AT_ONCE):
            hold()
            mine = (owner >= start) & (owner < start + _AT_ONCE)
            some = keys[start : start + _AT_ONCE]
            write(some, rows.filter(pl.Series(mine)), owner[mine] - start)
    if not names and len(seen) == 1:
        write(entities_of(_none(view), view)[0], _none(view), np.empty(0, np.int64))
    if of is not None and names:
        gone = of.select(names).unique().join(pl.concat(seen), on=names, how="anti")
        nothing = np.empty(0, np.int64)
        for start in range(0, gone.height, _AT_ONCE):
            hold()
            write(gone[start : start + _AT_ONCE], _none(view), nothing)


def _by_bucket(
    workspace: Workspace,
    view: View,
    table: Table,
    version: int | None,
    of: pl.DataFrame | None,
    since: int,
) -> Iterator[pl.DataFrame]:
    """Read what states are made of, a bucket at a time."""
    names = [key.name for key in view.join_keys]
    if of is None or not names:
        wanted = None
    else:
        wanted = set(bucket_of(of, view.join_keys, table.buckets).to_list())
    found = workspace.offline.parts(
        view,
        table,
        version=workspace.offline.version(view, table) if version is None else version,
        events=Interval(start=since, end=ENDING),
        checksums=workspace.ledger.checksums(table.id),
    )
    for part in found.parts:
        if wanted is not None and part.bucket not in wanted:
            continue
        rows = part.read([*names, *_columns(view)])
        yield rows if of is None or not names else rows.join(of, on=names, how="semi")


def _columns(view: View) -> list[str]:
    inputs = dict.fromkeys(input_name(one) for one in windows(view))
    return [EVENT, CREATED, KNOWN, REVISION, NUMBER, *inputs]


def _none(view: View) -> pl.DataFrame:
    dtypes = table_schema(view)
    return pl.DataFrame(schema={name: dtypes[name] for name in _columns(view)})


def _write(
    online: OnlineStore,
    view: View,
    table: Table,
    keys: pl.DataFrame,
    rows: pl.DataFrame,
    owner: Integers,
    *,
    expire_ms: int | None,
) -> None:
    """Write the states that some rows make, and what is left of what was pushed."""
    plan = layout(view)

    def build(kept: States, places: Integers) -> tuple[States, States]:
        mine, number = among(owner, places, keys.height)
        some = rows.filter(pl.Series(mine))
        return built(plan, len(places), some, number, lateness=view.settle, kept=kept)

    canonical = [key for key in canonical_keys(keys, view.join_keys) if key is not None]
    build_states(online, view, table.id, canonical, build, expire_ms=expire_ms)
