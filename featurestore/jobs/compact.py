"""Compaction: the many small files of a table's runs into one for each partition.

No answer changes: the rows are the same, sorted by key and time. What older versions need stays as
long as a registered lock names them, or they are younger than the retention.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from featurestore.errors import FeatureStoreError, InvalidRequest
from featurestore.jobs.facts import facts
from featurestore.jobs.leases import leased
from featurestore.jobs.run import (
    Report,
    finish_pending,
    going_on,
    raise_all,
    refuse_collected,
    refuse_lost,
    silent,
)
from featurestore.jobs.tables import DATA
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.facts import Facts
from featurestore.model.needs import needs
from featurestore.model.time import ENDING, Interval
from featurestore.storage.compaction import Places, crowded, in_groups, rewrite, vacuum
from featurestore.storage.ledger import Run

SOURCE = "compaction"
"""What the ledger says a compaction's rows come from."""

NOWHERE = Interval(start=ENDING, end=ENDING)
"""The interval of a compaction's run: no row is known in it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Compacted:
    """What was done to a table: its files before and after, and how many old ones were removed."""

    view: View
    table: Table
    before: int
    after: int
    removed: int

    def __repr__(self) -> str:
        return (
            f"<Compacted {self.view.version}: {self.before:,} files to {self.after:,}, "
            f"{self.removed:,} old ones removed>"
        )


def compact(
    workspace: Workspace,
    *,
    views: Sequence[str] = (),
    vacuumed: bool = False,
    report: Report | None = None,
) -> tuple[Compacted, ...]:
    """Rewrite the partitions of every table that have several files; some at a time, in a commit.

    With `vacuumed` files are removed that only versions need which no registered lock names, and
    which were replaced longer ago than the retention.

    Raises:
        InvalidRequest: no table is of a view that is named.
        Conflict: a run is on.
        CorruptData: a file is not what was written.
        Unavailable: as the stores say; but for this, what one table cannot do keeps no other from
            being done.
    """
    found = _tables(facts(workspace))
    chosen = [(view, table) for view, table in found if not views or view.name in views]
    strange = set(views) - {view.name for view, _ in chosen}
    if strange:
        raise InvalidRequest(f"{min(strange)}: no table is of a view of this name; see `list`")
    done: list[Compacted] = []
    failed: list[FeatureStoreError] = []
    for view, table in (one for one in chosen if workspace.ledger.covered(one[1].id)):
        with going_on(failed):
            done.append(_compact(workspace, view, table, vacuumed, report or silent))
    raise_all(failed)
    return tuple(done)


def _tables(known: Facts) -> Iterator[tuple[View, Table]]:
    """Give the tables that somebody needs, each with a view of its data."""
    found = {need.table.id: (need.view, need.table) for need in needs(known)}
    yield from sorted(found.values(), key=lambda one: (one[0].name, one[1].id))


def _compact(
    workspace: Workspace, view: View, table: Table, vacuumed: bool, report: Report
) -> Compacted:
    offline, run_id = workspace.offline, secrets.token_hex(16)
    report(view.name, "compacting", 0)
    with leased(workspace, table, run_id, why=f"compact {view.version}") as hold:
        refuse_collected(workspace, view, table)
        refuse_lost(workspace, view, table)
        finish_pending(workspace, view, table)
        before = offline.listed(view, table).height
        for places in in_groups(crowded(offline, view, table)):
            _rewrite(workspace, view, table, places, hold)
        removed = _vacuum(workspace, view, table) if vacuumed else 0
        after = offline.listed(view, table).height
    report(view.name, "done", 0)
    return Compacted(view=view, table=table, before=before, after=after, removed=removed)


def _rewrite(
    workspace: Workspace,
    view: View,
    table: Table,
    places: Places,
    hold: Callable[[], None],
) -> None:
    """Rewrite partitions as a run that is known nowhere: it moves the version, and no answer."""
    offline, ledger = workspace.offline, workspace.ledger
    run = Run(
        id=secrets.token_hex(16),
        table_id=table.id,
        view=view.name,
        version=view.id,
        interval=NOWHERE,
        source=SOURCE,
        rows=0,
        base_version=offline.version(view, table),
        delta_version=None,
        state="writing",
        started=workspace.clock(),
    )
    hold()
    ledger.start_run(run, ())
    commit = rewrite(
        offline,
        view,
        table,
        places,
        base=run.base_version,
        run=run.id,
        checksums=ledger.checksums(table.id),
        hold=hold,
    )
    log = offline.log_file(view, table, commit.version)
    ledger.commit_run(run, commit.version, (*commit.files, log))
    ledger.end_run(run, "served", now=workspace.clock())


def _vacuum(workspace: Workspace, view: View, table: Table) -> int:
    """Remove what neither the newest version, a registered lock nor the retention keeps.

    Locks are read just before: one may have been registered while the table was rewritten.
    """
    known = facts(workspace)
    named = (
        DATA.fullmatch(one.data or "")
        for registered in known.locks
        if registered.holds(known.now)
        for one in registered.lock.views
    )
    keep = {int(one["version"]) for one in named if one and one["table"] == table.id}
    return vacuum(workspace.offline, view, table, keep=keep, retention=known.retention)
