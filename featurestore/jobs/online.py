"""Bringing Redis in line with the offline tables.

Redis holds each key's newest row. A run's winners are written newest-wins; winners that the run
lowered or removed are replaced only where Redis still holds exactly them. Both may be repeated.
"""

from collections.abc import Callable, Mapping

import polars as pl

from featurestore.jobs.facts import committed, facts, need_of
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.facts import Facts
from featurestore.model.needs import Need, needs
from featurestore.model.time import CREATED, EVENT, REVISION, Interval
from featurestore.storage.keys import canonical_keys
from featurestore.storage.ledger import Run
from featurestore.storage.rows import HEADER_BYTES, RowLayout, row_columns

MARGIN = 86_400_000
"""How long Redis keeps a row beyond the ttl that needs it, milliseconds."""


def stored_rows(
    workspace: Workspace,
    view: View,
    table: Table,
    *,
    version: int | None,
    known: Interval | None = None,
) -> pl.DataFrame:
    """Read a table's rows, its files checked against the ledger."""
    return workspace.offline.rows(
        view, table, version=version, known=known, checksums=workspace.ledger.checksums(table.id)
    )


def serve_run(workspace: Workspace, view: View, table: Table, run: Run) -> tuple[int, int]:
    """Bring Redis in line with a committed run; gives the rows written and the keys repaired.

    Raises:
        Unavailable: Redis cannot be reached; the run stays committed, for the next to finish.
    """
    online = workspace.online()
    repaired = 0
    if online.is_marked(table.id):
        after = stored_rows(workspace, view, table, version=run.delta_version, known=run.interval)
        before = stored_rows(workspace, view, table, version=run.base_version, known=run.interval)
        winners = latest(view, after)
        expire = lifetime(view, table, needed(facts(workspace)))
        if expire is not None and online.keeps(table.id, expire + 1):
            online.mark(table.id, expire_ms=expire)
        served = online.put(table.id, _keys(view, winners), pack(view, winners), expire_ms=expire)
        if run.delta_version != run.base_version:
            repaired = _repair(workspace, view, table, run, latest(view, before), winners)
    else:
        served = load_online(workspace, view, table, needed(facts(workspace)))
    workspace.ledger.end_run(run, "served", now=workspace.clock())
    return served, repaired


def load_online(
    workspace: Workspace,
    view: View,
    table: Table,
    needed: Mapping[str, Need],
    hold: Callable[[], None] | None = None,
) -> int:
    """Write every key's newest offline row to Redis and mark the table as there; gives the rows.

    Only for who holds the table's lease (`hold` renews it): other rows are replaced even if they
    look newer, since damaged bytes may. The mark says for how long at least the rows stay.
    """
    online, expire = workspace.online(), lifetime(view, table, needed)
    rows = stored_rows(workspace, view, table, version=committed(workspace, table))
    winners = latest(view, rows)
    keys, packed = _keys(view, winners), pack(view, winners)
    if hold is not None:
        hold()
    served = online.put(table.id, keys, packed, expire_ms=expire, anyway=True)
    online.mark(table.id, expire_ms=expire)
    return served


def latest(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """Give each key's row with the greatest (event, created, revision)."""
    keys = [k.name for k in view.join_keys]
    ordered = rows.sort([*keys, EVENT, CREATED, REVISION])
    return ordered.unique(keys, keep="last", maintain_order=True) if keys else ordered.tail(1)


def pack(view: View, rows: pl.DataFrame) -> list[bytes]:
    """Give the packed rows as Redis stores them."""
    return RowLayout(columns=row_columns(view)).encode(
        rows, rows[EVENT], rows[CREATED], rows[REVISION]
    )


def needed(known: Facts) -> dict[str, Need]:
    """Give who needs which table, by table id."""
    return {need.table.id: need for need in needs(known)}


def lifetime(view: View, table: Table, needed: Mapping[str, Need]) -> int | None:
    """Give how long Redis must keep a table's rows after it was written to, milliseconds."""
    bound = _longest(view, needed.get(table.id))
    return None if bound is None else bound // 1000 + MARGIN


def longest_ttl(workspace: Workspace, view: View, table: Table) -> int | None:
    """Give the longest ttl that needs a table's rows: the view's own, or one that is asked for.

    Versions that differ in their ttl alone share a table.
    """
    return _longest(view, need_of(workspace, table))


def _longest(view: View, need: Need | None) -> int | None:
    ttls = [view.ttl, *(need.ttls if need else ())]
    bounds = [ttl for ttl in ttls if ttl is not None]
    return max(bounds) if len(bounds) == len(ttls) else None


def _keys(view: View, rows: pl.DataFrame) -> list[bytes]:
    """Give the canonical keys of stored rows, none of which has a null key."""
    return [key for key in canonical_keys(rows, view.join_keys) if key is not None]


def _repair(
    workspace: Workspace,
    view: View,
    table: Table,
    run: Run,
    before: pl.DataFrame,
    after: pl.DataFrame,
) -> int:
    """Replace in Redis the winners that the run lowered or removed, if Redis still holds them."""
    keys = [k.name for k in view.join_keys]
    header = pl.Series("__header", pack(view, before), dtype=pl.Binary).bin.head(HEADER_BYTES)
    new = after.select(
        *keys, pl.Series("__new", pack(view, after), dtype=pl.Binary).bin.head(HEADER_BYTES)
    )
    old = before.with_columns(header)
    joined = _beside(old, new, keys)
    lowered = joined.filter(
        pl.col("__header").is_not_null()
        & (pl.col("__new").is_null() | (pl.col("__new") < pl.col("__header")))
    )
    if lowered.is_empty():
        return 0
    table_now = stored_rows(workspace, view, table, version=run.delta_version)
    touched = table_now.join(lowered.select(keys), on=keys, how="semi") if keys else table_now
    winners = latest(view, touched)
    packed = winners.select(*keys, pl.Series("__row", pack(view, winners), dtype=pl.Binary))
    wanted = lowered.select(*keys, "__header")
    paired = _beside(wanted, packed, keys)
    return workspace.online().repair(
        table.id,
        _keys(view, paired),
        paired["__header"].to_list(),
        paired["__row"].to_list(),
    )


def _beside(left: pl.DataFrame, right: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Join one row per key to one row per key; without keys there is at most one row a side."""
    if keys:
        return left.join(right, on=keys, how="left", maintain_order="left")
    all_one = pl.lit(0).alias("__all")
    return (
        left.with_columns(all_one)
        .join(right.with_columns(all_one), on="__all", how="left", maintain_order="left")
        .drop("__all")
    )
