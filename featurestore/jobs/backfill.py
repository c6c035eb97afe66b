"""Backfill: compute new tables beside the live ones, over what those cover.

Each stretch that is missing is one run of the ledger, so a backfill that was killed goes on where
it stood. The live tables keep materializing meanwhile, and are never written here.
"""

import secrets
from collections.abc import Sequence
from itertools import pairwise

from featurestore.errors import InvalidRequest
from featurestore.jobs.leases import held
from featurestore.jobs.materialize import Outcome, Report, finish, new_table, run
from featurestore.jobs.publish import lasting
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Table, View
from featurestore.model.time import BEGINNING, Interval, gaps, union, watermark


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
        InvalidRequest: `again` without views, or a view that is computed at request time.
        NotFound: a view is not applied.
        SourceError, Unavailable: as the stores say; what was committed stays, and a rerun goes on.
    """
    if again and not views:
        raise InvalidRequest("backfill: again needs the views to compute again; name them")
    chosen = [workspace.view(name) for name in views] if views else workspace.project().views
    for view in chosen if views else ():
        if view.kind != "batch":
            raise InvalidRequest(
                f"{view.name}: is computed at request time; there is nothing to backfill"
            )
    outcomes: list[Outcome] = []
    with held(
        workspace, f"backfill {alias}", secrets.token_hex(16), why=f"backfill for {alias}"
    ) as on:
        live = live_views(workspace, alias)
        for view in (one for one in chosen if one.kind == "batch"):
            table = workspace.table(view)
            if again:
                table = _generation(workspace, view, table, live)
            on()
            outcomes += fill(workspace, view, table, live, report or _silent)
    return tuple(outcomes)


def live_views(workspace: Workspace, alias: str) -> tuple[LiveView, ...]:
    """Give the stored views of an alias's release; none if there is no such alias."""
    number = workspace.releases.aliases().get(alias)
    if number is None:
        return ()
    views = workspace.releases.release(number).views
    return tuple(one for one in views if one.table is not None)


def fill(
    workspace: Workspace,
    view: View,
    table: Table | None,
    live: Sequence[LiveView],
    report: Report,
) -> list[Outcome]:
    """Compute what a version's table (None: a new one) lacks of what the live tables cover.

    A table that is not in Redis, or not for as long as its ttl needs, is loaded there.
    """
    outcomes = []
    if table is not None:
        finish(workspace, view, table)
    for interval in missing(workspace, view, table, live):
        made = run(workspace, view, table, interval, report)
        table = table or workspace.table(view)
        outcomes.append(made)
    if table is not None:
        lasting(workspace, LiveView(view=view, table=table))
    return outcomes


def missing(
    workspace: Workspace, view: View, table: Table | None, live: Sequence[LiveView]
) -> tuple[Interval, ...]:
    """Give what a version's table lacks of what it must cover, in the pieces of the live runs.

    Every moment of the view's own live table counts, and every hole between what the table holds.
    """
    ledger = workspace.ledger
    own = [one.table for one in live if one.view.name == view.name and one.table is not None]
    covered = ledger.covered(table.id) if table else ()
    wanted = [interval for one in own for interval in ledger.covered(one.id)]
    if not wanted:
        marks = [watermark(ledger.covered(one.table.id)) for one in live if one.table is not None]
        ends = [mark for mark in marks if mark is not None]
        end = max(ends, default=workspace.clock())
        wanted = [Interval(start=BEGINNING, end=end)]
    whole = union([*wanted, *covered])
    wanted += [Interval(start=whole[0].start, end=whole[-1].end)]
    cuts = {r.interval.end for one in own for r in ledger.runs(one.id) if r.state == "served"}
    lacking = [gap for need in union(wanted) for gap in gaps(need, covered)]
    return tuple(piece for gap in lacking for piece in _cut(gap, cuts))


def _cut(gap: Interval, cuts: set[int]) -> list[Interval]:
    inner = sorted(cut for cut in cuts if gap.start < cut < gap.end)
    edges = [gap.start, *inner, gap.end]
    return [Interval(start=start, end=end) for start, end in pairwise(edges)]


def _generation(
    workspace: Workspace, view: View, table: Table | None, live: Sequence[LiveView]
) -> Table | None:
    """Give the table that `again` computes into: an unfinished one that is not live, else a new."""
    is_live = any(one.table == table for one in live)
    if table is None or is_live or not missing(workspace, view, table, live):
        return new_table(workspace, view, workspace.clock())
    return table


def _silent(view: str, stage: str, rows: int) -> None:
    """Report nothing."""
