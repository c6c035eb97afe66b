"""Backfill: compute new tables beside the live ones, over what those cover.

Each stretch that is missing is one run of the ledger, so a backfill that was killed goes on where
it stood. The live tables keep materializing meanwhile, and are never written here.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from featurestore.errors import CorruptData, InvalidRequest, NotMaterialized
from featurestore.jobs.due import asked
from featurestore.jobs.facts import committed, coverage, facts, newest_table, sized
from featurestore.jobs.leases import held
from featurestore.jobs.online import stored_rows
from featurestore.jobs.publish import lasting
from featurestore.jobs.run import Outcome, Report, finish, first_table, new_table, run, silent
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Table, View
from featurestore.model.steps import current, lacking
from featurestore.model.time import Interval
from featurestore.storage.keys import check_alias

_PIECES = 20
"""In how many runs a gap is computed at most: what dies is done again from the last one on."""


def backfill(
    workspace: Workspace,
    alias: str = "prod",
    *,
    views: Sequence[str] = (),
    again: bool = False,
    report: Report | None = None,
) -> tuple[Outcome, ...]:
    """Bring the applied versions' tables to what the alias's live tables cover.

    A view that is new to the alias is computed up to the newest moment that a live view is complete
    to, else up to now. `again` computes the named views from the source into a new generation of
    their tables, so that a load under suspicion stands beside the last good one.

    Raises:
        Conflict: another backfill for the alias is on; the message says whose.
        InvalidRequest: `again` without views, a view that is computed at request time, or an alias
            with other characters than it may have.
        NotFound: a view is not applied.
        SourceError, Unavailable: as the stores say; what was committed stays, and a rerun goes on.
    """
    check_alias(alias)
    if again and not views:
        raise InvalidRequest("backfill: again needs the views to compute again; name them")
    named = [workspace.view(name) for name in dict.fromkeys(views)]
    for view in named:
        if view.kind != "batch":
            raise InvalidRequest(
                f"{view.name}: is computed at request time; there is nothing to backfill"
            )
    outcomes: list[Outcome] = []
    with held(
        workspace, f"backfill {alias}", secrets.token_hex(16), why=f"backfill for {alias}"
    ) as on:
        for view in (one for one in named or workspace.project().views if one.kind == "batch"):
            table = newest_table(workspace, view)
            if again:
                table = _generation(workspace, view, table, alias)
            on()
            made = fill(workspace, view, table, alias, report or silent)
            lost = _lost(workspace, view, made) if again else None
            outcomes += (replace(one, before=lost) for one in made)
    return tuple(outcomes)


def fill(
    workspace: Workspace, view: View, table: Table | None, alias: str, report: Report
) -> list[Outcome]:
    """Compute what a version's table (None: a new one) lacks to be live in an alias.

    A table that is not in Redis, or not for as long as its ttl needs, is loaded there.
    """
    outcomes = []
    if table is not None:
        finish(workspace, view, table)
    missing = _missing(workspace, view, table, alias)
    if missing:
        table = table or first_table(workspace, view, missing[-1].end)
        due = [one for gap in missing for one in asked(workspace, view, table, gap).due]
        outcomes = [run(workspace, view, table, one.interval, report) for one in due]
    if table is not None:
        lasting(workspace, LiveView(view=view, table=table))
    report(view.name, "done", 0)
    return outcomes


def _missing(
    workspace: Workspace, view: View, table: Table | None, alias: str
) -> tuple[Interval, ...]:
    """Give what a version's table lacks, in pieces that end where runs of the live one did."""
    known, covered = facts(workspace), coverage(workspace)
    one = current(known, view.name, alias)
    runs = workspace.ledger.runs(one.table.id) if one and one.table else ()
    cuts = {done.interval.end for done in runs if done.state == "served"}
    gaps = lacking(known, covered, view, table, alias)
    return tuple(piece for gap in gaps for piece in _cut(gap, cuts))


def _cut(gap: Interval, cuts: set[int]) -> list[Interval]:
    inner = sorted(cut for cut in cuts if gap.start < cut < gap.end)
    inner = inner[:: len(inner) // _PIECES + 1]
    edges = [gap.start, *inner, gap.end]
    return [Interval(start=start, end=end) for start, end in pairwise(edges)]


def _lost(workspace: Workspace, view: View, made: Sequence[Outcome]) -> int | None:
    """Give how many rows the last good load has where what was computed again has none."""
    if not made or any(one.rows for one in made):
        return None
    *before, now = (t for t in workspace.ledger.tables() if t.data_id == view.data_id)
    if sized(workspace, view, now)[0]:
        return None
    rows = (sized(workspace, view, table)[0] for table in reversed(before))
    return next(filter(None, rows), None)


def is_damaged(workspace: Workspace, view: View, table: Table) -> bool:
    """Say whether a table's rows cannot be read as they were written; reads them all."""
    if not workspace.ledger.covered(table.id):
        return False
    workspace.offline.distrust()
    try:
        stored_rows(workspace, view, table, version=committed(workspace, table))
    except (CorruptData, NotMaterialized):
        return True
    return False


def _generation(workspace: Workspace, view: View, table: Table | None, alias: str) -> Table | None:
    """Give the table that `again` computes into: an unfinished one that is not live, else a new.

    One that cannot be read is never finished.
    """
    known = facts(workspace)
    live = known.releases[known.aliases[alias]].views if alias in known.aliases else ()
    is_live = any(one.table == table for one in live)
    done = table is None or is_live or not _missing(workspace, view, table, alias)
    if table is None or done or is_damaged(workspace, view, table):
        return new_table(workspace, view, workspace.clock())
    return table
