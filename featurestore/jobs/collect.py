"""Collect: remove what no recent release, registered lock or running work needs.

A table is first marked in SQL, under its lease, from when on nobody may need it again; then its
rows leave Redis and its folder is removed. A collect that was killed is completed by the next.
Documents stay for ever.
"""

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, replace

from featurestore.errors import Conflict
from featurestore.jobs.facts import facts, sized
from featurestore.jobs.leases import arranging, leased
from featurestore.jobs.publish import refresh
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.facts import Facts
from featurestore.model.needs import Need, needs, unneeded
from featurestore.storage.documents import Author, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """A table that nobody needs: its size offline and when it was last worked on (UTC µs).

    The size of a table that cannot be read is None.
    """

    table: Table
    view: View
    rows: int | None
    bytes: int | None
    written: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What may be removed, and what stays with the reasons; `releases` are copies in Redis."""

    tables: tuple[Garbage, ...]
    releases: tuple[int, ...]
    kept: tuple[Need, ...]

    def __repr__(self) -> str:
        tables = ", ".join(f"{one.view.version} ({one.table.id})" for one in self.tables)
        return f"<Collection of {tables or 'nothing'}, {len(self.kept)} tables kept>"


def collectible(workspace: Workspace) -> Collection:
    """Say what `collect` would remove, and why the rest stays; writes nothing."""
    known = facts(workspace)
    views = {view.data_id: view for view in known.versions.values()}
    tables = []
    for table in unneeded(known):
        view = views[table.data_id]
        rows, size = sized(workspace, view, table)
        written = known.written.get(table.id)
        tables.append(Garbage(table=table, view=view, rows=rows, bytes=size, written=written))
    return Collection(tables=tuple(tables), releases=_old(workspace, known), kept=needs(known))


def collect(workspace: Workspace, shown: Collection | None = None) -> Collection:
    """Remove what nobody needs, and finish what a killed collect had begun; gives what was removed.

    With `shown` nothing goes that was not shown. A table that is just being written is left for the
    next time.

    Raises:
        Conflict: another process is arranging releases, or took over this one's turn.
        Unavailable, CorruptData: as the stores say; the next collect completes it.
    """
    with arranging(workspace, "collect") as turn:
        found = collectible(workspace)
        if shown is not None:
            tables = {one.table for one in shown.tables}
            found = replace(
                found,
                tables=tuple(one for one in found.tables if one.table in tables),
                releases=tuple(n for n in found.releases if n in shown.releases),
            )
        gone = tuple(one for one in found.tables if _mark(workspace, one, turn))
        workspace.releases.collect_releases(
            found.releases, now=workspace.clock(), who=workspace.who, commit=workspace.commit
        )
    for alias in workspace.releases.aliases():
        refresh(workspace, alias)
    _sweep(workspace)
    return replace(found, tables=gone)


def _mark(workspace: Workspace, one: Garbage, turn: Turn) -> bool:
    """Give a table up, unless a run writes to it now.

    Raises:
        Conflict: the turn is over.
    """
    why, owner = f"collect {one.view.version}", secrets.token_hex(16)
    author = Author(
        project=workspace.config.project,
        now=workspace.clock(),
        who=workspace.who,
        commit=workspace.commit,
    )
    noted = (author, f"{one.view.version} ({one.table.id})")
    with ExitStack() as stack:
        try:
            stack.enter_context(leased(workspace, one.table, owner, why=why))
        except Conflict:
            return False
        return workspace.ledger.collect_table(
            one.table, now=workspace.clock(), turn=turn, noted=noted
        )


def _sweep(workspace: Workspace) -> None:
    """Remove what is marked: from Redis, then offline."""
    views = {view.data_id: view for view in workspace.registry.all_versions().values()}
    online = workspace.online()
    for table in workspace.ledger.collected():
        view = views[table.data_id]
        online.drop_table(table.id)
        workspace.offline.drop(view.name, table)
        workspace.ledger.drop_table(table, now=workspace.clock())
    kept = workspace.releases.releases()
    online.drop_releases(sorted(set(range(1, max(kept, default=1))) - set(kept)))


def _old(workspace: Workspace, known: Facts) -> tuple[int, ...]:
    return tuple(n for n in workspace.releases.releases() if n not in known.releases)
