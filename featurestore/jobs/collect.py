"""Collect: remove what no recent release, registered lock or running work needs.

A table is first marked in SQL, under its lease, from when on nobody may need it again; then its
rows leave Redis and its folder is removed. A collect that was killed is completed by the next.
Documents stay for ever.
"""

import secrets
from contextlib import suppress
from dataclasses import dataclass

from featurestore.errors import Conflict, NotMaterialized
from featurestore.jobs.facts import facts
from featurestore.jobs.leases import arranging, leased
from featurestore.jobs.publish import refresh
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.needs import Facts, Need, needs, unneeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """A table that nobody needs: its size offline and when it was last worked on (UTC µs)."""

    table: Table
    view: View
    rows: int
    bytes: int
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
        rows, size = _size(workspace, view, table)
        written = known.written.get(table.id)
        tables.append(Garbage(table=table, view=view, rows=rows, bytes=size, written=written))
    return Collection(tables=tuple(tables), releases=_old(workspace, known), kept=needs(known))


def collect(workspace: Workspace) -> Collection:
    """Remove what nobody needs; gives what was removed, also what a killed collect had begun.

    A table that is just being written is left for the next time.

    Raises:
        Conflict: another process is arranging releases.
        Unavailable, CorruptData: as the stores say; the next collect completes it.
    """
    with arranging(workspace, "collect"):
        found = collectible(workspace)
        gone = [one for one in found.tables if _mark(workspace, one)]
        now, who, commit = workspace.clock(), workspace.who, workspace.commit
        workspace.releases.collect_releases(found.releases, now=now, who=who, commit=commit)
        if gone:
            names = ", ".join(f"{one.view.version} ({one.table.id})" for one in gone)
            workspace.registry.note("collect", names, now=now, who=who, commit=commit)
    for alias in workspace.releases.aliases():
        refresh(workspace, alias)
    _sweep(workspace)
    return Collection(tables=tuple(gone), releases=found.releases, kept=found.kept)


def _size(workspace: Workspace, view: View, table: Table) -> tuple[int, int]:
    """Give a table's rows and bytes; one whose maker died before its folder was made has none."""
    try:
        return workspace.offline.size(view, table)
    except NotMaterialized:
        return 0, 0


def _mark(workspace: Workspace, one: Garbage) -> bool:
    """Give a table up, unless a run writes to it now."""
    with suppress(Conflict):
        why = f"collect {one.view.version}"
        with leased(workspace, one.table, secrets.token_hex(16), why=why):
            return workspace.ledger.collect_table(one.table, now=workspace.clock())
    return False


def _sweep(workspace: Workspace) -> None:
    """Remove what is marked: from Redis, then from disk."""
    views = {view.data_id: view for view in workspace.registry.all_versions().values()}
    online = workspace.online()
    for table in workspace.ledger.collected():
        online.drop_table(table.id)
        workspace.offline.drop(views[table.data_id].name, table)
        workspace.ledger.drop_table(table, now=workspace.clock())
    kept = workspace.releases.releases()
    online.drop_releases(sorted(set(range(1, max(kept, default=1))) - set(kept)))


def _old(workspace: Workspace, known: Facts) -> tuple[int, ...]:
    return tuple(n for n in workspace.releases.releases() if n not in known.releases)
