"""Bringing Redis in line with the offline tables.

Redis holds each key's newest row. A run's winners are written newest-wins; winners that the run
lowered or removed are replaced only where Redis still holds exactly them. Both may be repeated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Self

import polars as pl

from featurestore.errors import Conflict
from featurestore.jobs.facts import committed, facts, need_of
from featurestore.jobs.replay import replay
from featurestore.jobs.states import rebuild_states
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.facts import Facts
from featurestore.model.needs import Need, needs
from featurestore.model.reads import takes_pushes
from featurestore.model.time import BEGINNING, EVENT, Interval
from featurestore.model.windows import numbered, reach, row_order, windows
from featurestore.storage.keys import pushed_of, states_of
from featurestore.storage.ledger import Run
from featurestore.storage.packed import header, latest, pack, row_keys
from featurestore.storage.redis import KEYS_PER_SCRIPT
from featurestore.storage.rows import RowLayout, layout_of
from featurestore.storage.server import SCRIPTS_PER_PIPELINE

MARGIN = 86_400_000
"""How long Redis keeps a row beyond the ttl that needs it, milliseconds."""

_AT_ONCE = KEYS_PER_SCRIPT * SCRIPTS_PER_PIPELINE
HEADER = "__header"
"""The column of packed headers that `lowered_winners` gives."""

Packed = tuple[list[bytes], list[bytes]]
"""Canonical keys and packed rows."""


def stored_rows(
    workspace: Workspace,
    view: View,
    table: Table,
    *,
    version: int | None,
    known: Interval | None = None,
    features: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Read a table's rows, its files checked against the ledger."""
    return workspace.offline.rows(
        view,
        table,
        features=features,
        version=version,
        known=known,
        checksums=workspace.ledger.checksums(table.id),
    )


def serve_run(workspace: Workspace, view: View, table: Table, run: Run) -> tuple[int, int]:
    """Bring Redis in line with a committed run; gives the rows written and the keys repaired.

    Raises:
        Conflict: another run took this one for dead and finished it; nothing more is written.
        Unavailable: Redis cannot be reached; the run stays committed, for the next to finish.
    """
    online, repaired = workspace.online(), 0

    def hold() -> None:
        _refuse_finished(workspace, run)

    hold()
    if online.is_marked(table.id):
        after = Winners.find(workspace, view, table, version=run.delta_version, known=run.interval)
        expire = lifetime(view, table, needed(facts(workspace)))
        if expire is not None and online.keeps(table.id, expire + 1):
            online.mark(table.id, expire_ms=expire)
        served = online.put_all(table.id, _held(after.packed(), hold), expire_ms=expire)
        if run.delta_version != run.base_version:
            before = Winners.find(
                workspace, view, table, version=run.base_version, known=run.interval
            )
            lowered = lowered_winners(view, before.places, after.places)
            hold()
            repaired = _repair(workspace, view, table, run, lowered)
            if windows(view):
                _follow(workspace, view, table, run, before.places, after.places, expire, hold)
        elif windows(view):
            keys = row_keys(view, after.places)
            for held in (states_of(table.id), pushed_of(table.id)):
                online.prolong(held, keys, expire_ms=expire)
    else:
        served = load_online(workspace, view, table, needed(facts(workspace)), hold)
    now = workspace.clock()
    workspace.ledger.end_run(run, "served", now=now, served=served, repaired=repaired)
    return served, repaired


def _follow(
    workspace: Workspace,
    view: View,
    table: Table,
    run: Run,
    before: pl.DataFrame,
    after: pl.DataFrame,
    expire: int | None,
    hold: Callable[[], None],
) -> None:
    """Build the window states again of the entities that a run changed, or may have."""
    names = [key.name for key in view.join_keys]
    # Where no row is gone, an entity's newest event is not before its newest in the run.
    stays = before.join(after, on=_place(view), how="anti", nulls_equal=True).is_empty()
    oldest = after[EVENT].to_physical().min() if stays and not numbered(view) else None
    reaches = reach(view.features)
    rebuild_states(
        workspace,
        view,
        table,
        version=run.delta_version,
        of=pl.concat([before.select(names), after.select(names)]).unique() if names else None,
        since=oldest - reaches if isinstance(oldest, int) else BEGINNING,
        expire_ms=expire,
        hold=hold,
    )


def _refuse_finished(workspace: Workspace, run: Run) -> None:
    """Stop a run that another one finished: Redis may already hold less than it would write."""
    if workspace.ledger.state(run) != "committed":
        raise Conflict(
            f"{run.view}: this run outlived its lease and another one finished it; run it again"
        )


def _held(batches: Iterator[Packed], hold: Callable[[], None]) -> Iterator[Packed]:
    """Give batches, each if it may still be written: making one takes its time."""
    for batch in batches:
        hold()
        yield batch


def load_online(
    workspace: Workspace,
    view: View,
    table: Table,
    needed: Mapping[str, Need],
    hold: Callable[[], None],
) -> int:
    """Write every key's newest offline row to Redis and mark the table as there; gives the rows.

    Only for who holds the table's lease (`hold` sees to that before each batch): other rows are
    replaced even if they look newer, since damaged bytes may, unless rows may be pushed. What was
    pushed since is written too. The mark says for how long at least the rows stay.
    """
    online, expire = workspace.online(), lifetime(view, table, needed)
    winners = Winners.find(workspace, view, table, version=committed(workspace, table))
    batches = _held(winners.packed(), hold)
    if takes_pushes(view):
        served = sum(_beside_pushes(workspace, view, table, *batch, expire) for batch in batches)
    else:
        served = online.put_all(table.id, batches, expire_ms=expire, anyway=True)
    if windows(view):
        rebuild_states(
            workspace,
            view,
            table,
            version=winners.version,
            expire_ms=expire,
            hold=hold,
        )
    online.mark(table.id, expire_ms=expire)
    replay(workspace, view, table)
    return served


def _beside_pushes(
    workspace: Workspace,
    view: View,
    table: Table,
    keys: list[bytes],
    rows: list[bytes],
    expire: int | None,
) -> int:
    """Write rows where none or an older one stands, or one that cannot be read.

    A newer one may have been pushed: it stays.
    """
    online, layout = workspace.online(), layout_of(view)
    sound = layout.sound(online.values(table.id, keys))
    if all(sound):
        return online.put(table.id, keys, rows, expire_ms=expire)
    served = 0
    for mine, anyway in ((sound, False), ([not one for one in sound], True)):
        some, values = (list(compress(of, mine)) for of in (keys, rows))
        served += online.put(table.id, some, values, expire_ms=expire, anyway=anyway)
    return served


@dataclass(frozen=True, slots=True, kw_only=True)
class Winners:
    """The newest row of each key in a state of a table, or in an interval of it.

    `places` says by keys, times and revision which they are; their features stay in the table until
    they are needed, some thousand rows at a time.
    """

    workspace: Workspace
    view: View
    table: Table
    version: int | None
    known: Interval | None
    places: pl.DataFrame

    @classmethod
    def find(
        cls,
        workspace: Workspace,
        view: View,
        table: Table,
        *,
        version: int | None,
        known: Interval | None = None,
        among: pl.DataFrame | None = None,
    ) -> Self:
        """Read keys and times to find them, of all keys or of those that are `among` some rows."""
        rows = stored_rows(workspace, view, table, version=version, known=known, features=())
        keys = [k.name for k in view.join_keys]
        if among is not None and keys:
            rows = rows.join(among, on=keys, how="semi")
        return cls(
            workspace=workspace,
            view=view,
            table=table,
            version=version,
            known=known,
            places=latest(view, rows).select(_place(view)),
        )

    def rows(self) -> Iterator[pl.DataFrame]:
        """Read their rows, in no particular order."""
        return self.workspace.offline.batches(
            self.view,
            self.table,
            self.places,
            size=_AT_ONCE,
            version=self.version,
            known=self.known,
            checksums=self.workspace.ledger.checksums(self.table.id),
        )

    def packed(self) -> Iterator[Packed]:
        """Give canonical keys and packed rows as Redis stores them."""
        return ((row_keys(self.view, rows), pack(self.view, rows)) for rows in self.rows())


def needed(known: Facts) -> dict[str, Need]:
    """Give who needs which table, by table id."""
    return {need.table.id: need for need in needs(known)}


def lifetime(view: View, table: Table, needed: Mapping[str, Need]) -> int | None:
    """Give how long Redis must keep a table's rows after it was written to, milliseconds."""
    bound = _longest(view, needed.get(table.id))
    # What windows cover is kept as long as the row beside it, and the other way round.
    bound = None if bound is None else max(bound, reach(view.features))
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


def lowered_winners(view: View, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Give those winners that a run removed or lowered, with the headers they have in Redis."""
    place = _place(view)
    moved = before.join(after, on=place, how="anti", nulls_equal=True)
    newest = latest(view, pl.concat([before, after]))
    lowered = moved.join(newest, on=place, how="semi", nulls_equal=True)
    layout = RowLayout(columns=(), numbered=layout_of(view).numbered)
    headers = pl.Series(HEADER, layout.encode(lowered, *header(lowered)), dtype=pl.Binary)
    return lowered.select(*(k.name for k in view.join_keys), headers)


def _repair(workspace: Workspace, view: View, table: Table, run: Run, lowered: pl.DataFrame) -> int:
    """Replace lowered winners by what the table has now, wherever Redis still holds just them."""
    if lowered.is_empty():
        return 0
    keys = [k.name for k in view.join_keys]
    now = Winners.find(workspace, view, table, version=run.delta_version, among=lowered)
    online, repaired = workspace.online(), 0
    for rows in now.rows():
        paired = rows.join(lowered, on=keys, how="left") if keys else rows.hstack(lowered)
        headers = paired[HEADER].to_list()
        repaired += online.repair(table.id, row_keys(view, paired), headers, pack(view, paired))
    gone = lowered.join(now.places, on=keys, how="anti") if keys else lowered[now.places.height :]
    nothing = [None] * gone.height
    return repaired + online.repair(table.id, row_keys(view, gone), gone[HEADER].to_list(), nothing)


def _place(view: View) -> list[str]:
    """Name the columns that tell a view's stored rows apart."""
    return list(row_order(view))
