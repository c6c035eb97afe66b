"""Pushing rows: judged, computed by the views of their source, and written where lookups read.

What becomes of them offline is a sink's, which whoever assembles the process hands in.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from featurestore.engine.accept import Accepted, accept
from featurestore.engine.rows import computed_rows
from featurestore.errors import FeatureStoreError, NotFound, NotMaterialized, Unsupported
from featurestore.model.documents import LiveView, View
from featurestore.model.names import suggest
from featurestore.model.pushes import SKEW
from featurestore.model.reads import sources_of
from featurestore.model.time import KNOWN, REVISION
from featurestore.model.windows import windows
from featurestore.serving.message.pushed import Online, PushResult, To, named
from featurestore.serving.push.states import push_states
from featurestore.storage.packed import latest, pack, row_keys
from featurestore.storage.raw import raw_of
from featurestore.storage.redis import OnlineStore
from featurestore.storage.unique import unique

_TRIES = 2_000
"""How many blocks of rows are computed at most to find those that cannot be."""

Sink = Callable[[str, pl.DataFrame], str]
"""Keeps rows pushed to a source for offline, and says in words how safe they are."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Push:
    """Rows that a source's views take, and what each view computed of them, by data id."""

    source: str
    accepted: Accepted
    computed: dict[str, pl.DataFrame]


def check_source(source: str, views: Sequence[View]) -> tuple[View, ...]:
    """Give the views over a source that rows may be pushed to.

    Raises:
        NotFound: no view reads a source of this name, or it is no PushSource.
        InvalidRequest: it is no name.
    """
    source, found = named(source), sources_of(views)
    pushed = [name for name, documents in found.items() if any(one.pushed for one in documents)]
    if source in found and source not in pushed:
        raise NotFound(
            f"{source}: is no PushSource; wrap it in PushSource(name=…, batch_source=…), give its "
            "views that as their source, and apply"
        )
    if source not in pushed:
        raise NotFound(
            f"{source}: no view reads a PushSource of this name{suggest(source, pushed)}"
        )
    return tuple(view for view in views if view.source is not None and view.source.name == source)


def judge(
    source: str,
    rows: pl.DataFrame,
    views: Sequence[View],
    *,
    now: int,
    max_skew: int = SKEW,
    most: int,
    beside: Collection[str] = (),
) -> Push:
    """Judge rows and compute them, so that no row is kept which a view cannot be made of.

    `views` are the versions over the source, those that are live first; the arguments are those of
    `accept`. Versions whose data are `beside` refuse no row: they are left out.
    """
    accepted = accept(rows, views, now=now, max_skew=max_skew, most=most)
    taking = {view.data_id: view for view in reversed(accepted.views)}
    while True:
        computed: dict[str, pl.DataFrame] = {}
        if accepted.rows.is_empty():
            return Push(source=source, accepted=accepted, computed=computed)
        for view in taking.values():
            try:
                computed[view.data_id] = stored_rows(view, raw_of(view, accepted.rows))
            except FeatureStoreError as error:
                if view.data_id in beside:
                    del taking[view.data_id]
                    accepted = accepted.without_view(view, str(error))
                else:
                    accepted = _without_culprits(view, accepted, str(error))
                break
        else:
            return Push(source=source, accepted=accepted, computed=computed)


def stored_rows(view: View, raw: pl.DataFrame) -> pl.DataFrame:
    """Compute raw rows that were pushed as a run would: what a table of the view stores."""
    made = unique(view, computed_rows(view, raw))
    return made.hstack([pl.Series(REVISION, np.zeros(made.height, np.uint32))])


def _without_culprits(view: View, accepted: Accepted, reason: str) -> Accepted:
    """Refuse the rows that a view cannot be computed of, found by halves."""
    bad = pl.Series([False]).new_from_index(0, accepted.rows.height).to_numpy().copy()
    blocks, tries = [(0, accepted.rows.height)], 0
    while blocks:
        start, end = blocks.pop()
        tries += 1
        try:
            stored_rows(view, raw_of(view, accepted.rows[start:end]))
        except FeatureStoreError:
            if end - start == 1 or tries > _TRIES:
                bad[start:end] = True
            else:
                middle = (start + end) // 2
                blocks += [(start, middle), (middle, end)]
    if not bad.any():
        # Only together they cannot be computed: nobody can tell which of them it is.
        bad[:] = True
    return accepted.without([(view.name, pl.Series(bad), reason)])


def push_rows(
    store: OnlineStore, lives: Sequence[LiveView], push: Push, *, now: int
) -> tuple[Online, ...]:
    """Write judged rows to each table that is served, where they are a key's newest.

    Rows that are known only later, by the view's delay or their own timestamp, are not written:
    materialization brings them, if they went offline too. Writing them again changes nothing.

    Raises:
        Unavailable: Redis cannot be reached; some tables may have been written to.
    """
    taking = [one for one in lives if one.view.data_id in push.computed]
    tables = {one.table.id: one for one in reversed(taking) if one.table}
    kept = store.expiries(list(tables))
    return tuple(
        put_rows(store, one, push.computed[one.view.data_id], kept, now=now)
        for one in reversed(tables.values())
    )


def put_rows(
    store: OnlineStore,
    live: LiveView,
    rows: pl.DataFrame,
    kept: dict[str, int | None],
    *,
    now: int,
) -> Online:
    """Write one view's rows; those of a table that is not in Redis wait for materialization."""
    view, table = live.view, live.table
    assert table is not None
    known = rows[KNOWN].cast(pl.Int64) <= now
    ready, later = (
        (rows, rows.clear()) if known.all() else (rows.filter(known), rows.filter(~known))
    )
    last = later[KNOWN].to_physical().max() if later.height else None
    told = Online(
        view=view.name,
        version=view.version,
        table=table.id,
        rows=ready.height,
        written=0,
        later=later.height,
        known_at=last if isinstance(last, int) else None,
        missing=table.id not in kept,
    )
    if told.missing or ready.is_empty():
        return told
    newest = latest(view, ready)
    written = store.put(
        table.id, row_keys(view, newest), pack(view, newest), expire_ms=kept[table.id]
    )
    if not windows(view):
        return replace(told, written=written)
    waiting = push_states(store, view, table.id, ready, now=now, expire_ms=kept[table.id])
    return replace(told, written=written, waiting=waiting)


def deliver(
    push: Push,
    lives: Sequence[LiveView],
    store: Callable[[], OnlineStore],
    sink: Sink | None,
    *,
    to: To,
    now: int,
) -> PushResult:
    """Hand judged rows to the sink first, then write them online, as asked.

    Raises:
        Unsupported: they are to go offline, and there is no sink.
        NotMaterialized: they are to go online only, where no view of theirs is served.
        FeatureStoreError: a store fails; whether the rows are safe offline is said.
    """
    rows, offline = push.accepted.rows, ""
    if to != "online":
        if sink is None:
            raise Unsupported(
                f"{push.source}: this server has no way to hand rows on to the offline store; push "
                "to='online', or with FeatureStore.push"
            )
        offline = sink(push.source, rows) if rows.height else "nothing to keep"
    elif rows.height and not any(one.table and one.view.data_id in push.computed for one in lives):
        raise NotMaterialized(
            f"{push.source}: none of its views is served yet, so rows that go online only would be "
            "nowhere; run `featurestore promote` first, or push to='online_and_offline'"
        )
    online: tuple[Online, ...] = ()
    try:
        if to != "offline" and rows.height:
            online = push_rows(store(), lives, push, now=now)
    except FeatureStoreError as error:
        if not offline:
            raise
        raise type(error)(
            f"{error}; offline the rows are safe ({offline}), and pushing them again does no harm"
        ) from error
    if to == "online":
        online = tuple(one.alone() for one in online)
    return PushResult(
        source=push.source,
        to=to,
        accepted=rows.height,
        refused_rows=push.accepted.refused_rows,
        refused=push.accepted.refused,
        online=online,
        offline=offline or "not asked for",
    )
