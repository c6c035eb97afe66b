"""Materialization: the tables that somebody needs fresh, each brought up to date by a run."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace

from featurestore.errors import (
    Conflict,
    FeatureStoreError,
    InvalidRequest,
)
from featurestore.jobs.compute import closed
from featurestore.jobs.due import Due, Work, asked, counted, since
from featurestore.jobs.facts import facts
from featurestore.jobs.push import take_in
from featurestore.jobs.run import (
    Outcome,
    Report,
    finish,
    first_table,
    going_on,
    raise_all,
    run,
    silent,
)
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.needs import needs
from featurestore.model.time import Interval, show


def materialize(
    workspace: Workspace,
    start: int,
    end: int,
    *,
    views: Sequence[str] = (),
    report: Report | None = None,
) -> tuple[Outcome, ...]:
    """Materialize the rows known in [start, end] (UTC microseconds, both included).

    That is for every table that somebody needs fresh (what is applied, live, demoted of late, or
    held by a lock), and for applied views that have none yet. A long interval takes several runs.
    Rows that servers were pushed since are taken in first.

    Raises:
        InvalidRequest: end is before start, or in the future.
        Conflict: another registry of this project's name wrote to this Redis, or another run is on.
        SourceError, Unavailable: as the stores say; what was committed stays, and what one table
            cannot do keeps no other from being done.
    """
    interval = _interval(workspace, start, end)
    outcomes: list[Outcome] = []
    failed: list[FeatureStoreError] = []
    take_in(workspace, failed)
    for view, table, _ in _chosen(workspace, views):
        with going_on(failed):
            work = asked(workspace, view, table, interval)
            _carry_out(workspace, work, report or silent, outcomes)
    raise_all(failed)
    return tuple(outcomes)


def materialize_incremental(
    workspace: Workspace, end: int, *, views: Sequence[str] = (), report: Report | None = None
) -> tuple[Outcome, ...]:
    """Materialize from each view's watermark, less its settle span, to `end` (UTC microseconds).

    Older intervals in which the source changed since they were read (late, corrected and removed
    rows) are computed again. A view that was never materialized starts at the beginning of its
    source, unless another version of it is live: that is `backfill`'s work. One whose watermark is
    past `end` is left as it is, and so is a table beside the live one that somebody else is writing
    to: the next time goes on from its watermark.

    Raises:
        InvalidRequest, Conflict, SourceError, Unavailable: as `materialize` does.
    """
    _refuse_future(workspace, end)
    outcomes: list[Outcome] = []
    failed: list[FeatureStoreError] = []
    take_in(workspace, failed)
    for view, table, live in _chosen(workspace, views):
        beside = not live and _is_live(workspace, view.name)
        with going_on(failed), suppress(Conflict) if beside else nullcontext():
            work = _since(workspace, view, table, end, beside=beside)
            if table is not None and not work.due:
                _finish(workspace, view, table)
            _carry_out(workspace, work, report or silent, outcomes)
    raise_all(failed)
    return tuple(outcomes)


def due(
    workspace: Workspace, start: int, end: int, *, views: Sequence[str] = ()
) -> tuple[Due, ...]:
    """Tell the runs that `materialize` would make, with the rows known in each; writes nothing.

    Raises:
        InvalidRequest, SourceError, Unavailable: as `materialize` does.
    """
    interval = _interval(workspace, start, end)
    return tuple(
        one
        for view, table, _ in _chosen(workspace, views)
        for one in counted(workspace, asked(workspace, view, table, interval).due)
    )


def due_incremental(
    workspace: Workspace, end: int, *, views: Sequence[str] = ()
) -> tuple[Due, ...]:
    """Tell the runs that `materialize_incremental` would make; writes nothing.

    Raises:
        InvalidRequest, SourceError, Unavailable: as `materialize` does.
    """
    _refuse_future(workspace, end)
    found: list[Due] = []
    for view, table, live in _chosen(workspace, views):
        beside = not live and _is_live(workspace, view.name)
        work = _since(workspace, view, table, end, beside=beside)
        found += counted(workspace, work.due)
    return tuple(found)


def _since(
    workspace: Workspace, view: View, table: Table | None, end: int, *, beside: bool
) -> Work:
    """Tell what is due of a table; one beside the live one is begun by `backfill`."""
    begun = table is not None and workspace.ledger.covered(table.id)
    return since(workspace, view, table, end) if begun or not beside else Work()


def _finish(workspace: Workspace, view: View, table: Table) -> None:
    """Finish what died of a table's runs, as a run would; whoever is writing to it does so too."""
    with suppress(Conflict):
        finish(workspace, view, table)


def _carry_out(workspace: Workspace, work: Work, report: Report, outcomes: list[Outcome]) -> None:
    """Make the runs that are due of a table, each of which stays when a later one fails."""
    if not work.due:
        return
    view, table = work.due[0].view, work.due[0].table
    table = table or first_table(workspace, view, work.due[-1].interval.end)
    for one in work.due:
        made = run(workspace, view, table, one.interval, report)
        outcomes.append(replace(made, why=one.why))
    if work.checked is not None:
        workspace.ledger.check(table, work.checked)
    report(view.name, "done", 0)


def _interval(workspace: Workspace, start: int, end: int) -> Interval:
    if end < start:
        raise InvalidRequest(
            f"materialize: end {show(end)} is before start {show(start)}; swap the two"
        )
    _refuse_future(workspace, end)
    return closed(start, end)


def _is_live(workspace: Workspace, name: str) -> bool:
    releases = map(workspace.releases.release, set(workspace.releases.aliases().values()))
    return any(one.view.name == name for release in releases for one in release.views)


def _refuse_future(workspace: Workspace, end: int) -> None:
    now = workspace.clock()
    if end > now:
        raise InvalidRequest(
            f"materialize: end {show(end)} is in the future (it is {show(now)}); rows that are not "
            "known yet cannot be complete"
        )


def _chosen(workspace: Workspace, names: Sequence[str]) -> list[tuple[View, Table | None, bool]]:
    """Give what to materialize: versions with their tables, or with none yet, and if it is live.

    What is live comes first: a backfill beside it holds up nobody.
    """
    for view in (workspace.view(name) for name in names):
        if view.kind != "batch":
            raise InvalidRequest(
                f"{view.name}: is computed at request time; there is nothing to materialize"
            )
    known = facts(workspace)
    chosen: list[tuple[View, Table | None, bool]] = [
        (need.view, need.table, need.live) for need in needs(known) if need.fresh
    ]
    chosen += [
        (view, None, False)
        for view in workspace.project().views
        if view.kind == "batch" and known.newest(view.data_id) is None
    ]
    return sorted(
        (one for one in chosen if not names or one[0].name in names),
        key=lambda one: (not one[2], one[0].name),
    )
