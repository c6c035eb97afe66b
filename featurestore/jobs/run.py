"""A run: an interval of a view's source into its offline table, then into Redis.

It announces itself in the ledger (`writing`), commits the interval offline (`committed`) and
brings Redis in line (`served`). Whichever step a kill interrupts, the next run of the table finds
it in the ledger and finishes it first.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import polars as pl

from featurestore.errors import (
    Conflict,
    FeatureStoreError,
    NotMaterialized,
    Unavailable,
)
from featurestore.jobs.compute import computed
from featurestore.jobs.leases import leased
from featurestore.jobs.online import serve_run, stored_rows
from featurestore.jobs.revise import revise
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.layout import buckets_for, period_for
from featurestore.model.pieces import Read, cut
from featurestore.model.time import (
    BEGINNING,
    KNOWN,
    Interval,
    inside,
    show,
)
from featurestore.storage.damage import damaged
from featurestore.storage.files import DataFile
from featurestore.storage.ledger import Run
from featurestore.storage.sources import extent
from featurestore.storage.view_source import ViewSource, fingerprint, first_known

Report = Callable[[str, str, int], None]
"""Called with (view, stage, rows) as a run moves on."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Outcome:
    """What a run did: `changed` is False if the table already said the same.

    `why` is what made it due. `before` is how many rows the last good load has, where computing a
    table again gave none.
    """

    view: str
    version: str
    table: str
    interval: Interval
    rows: int
    served: int
    repaired: int
    changed: bool
    why: str = ""
    before: int | None = None

    def __repr__(self) -> str:
        done = "" if self.changed else ", unchanged"
        return (
            f"<Outcome {self.version}: {self.rows:,} rows known up to {show(self.interval.end)}, "
            f"{self.served:,} to Redis{done}>"
        )


def silent(view: str, stage: str, rows: int) -> None:
    """Report nothing."""


@contextmanager
def going_on(failed: list[FeatureStoreError]) -> Iterator[None]:
    """Keep what one table cannot do from the others; what no table can do is raised at once."""
    try:
        yield
    except Unavailable:
        raise
    except FeatureStoreError as error:
        failed.append(error)


def raise_all(failed: Sequence[FeatureStoreError]) -> None:
    """Raise what failed, after all that could be done was done."""
    if len(failed) > 1:
        told = "; ".join(map(str, failed))
        raise type(failed[0])(f"{len(failed)} tables failed, the others are done: {told}")
    if failed:
        raise failed[0]


def run(
    workspace: Workspace, view: View, table: Table, interval: Interval, report: Report
) -> Outcome:
    """Compute an interval of a version into its table, then into Redis.

    Raises:
        Conflict: another run is on, or another registry's rows are in Redis.
        SourceError, Unavailable: as the stores say; what was committed stays.
    """
    run_id = secrets.token_hex(16)
    report(view.name, "reading", 0)
    if not workspace.ledger.covered(table.id):
        workspace.offline.create(view, table)
    with leased(workspace, table, run_id, why=f"materialize {view.version}") as hold:
        refuse_collected(workspace, view, table)
        refuse_lost(workspace, view, table)
        finish_pending(workspace, view, table)
        interval = reach_back(workspace, view, table, interval)
        made = _commit(workspace, view, table, interval, run_id, report, hold)
        report(view.name, "serving", made.rows)
        hold()
        served, repaired = serve_run(workspace, view, table, made)
    return Outcome(
        view=view.name,
        version=view.version,
        table=table.id,
        interval=interval,
        rows=made.rows,
        served=served,
        repaired=repaired,
        changed=made.delta_version != made.base_version,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _CameFrom:
    """What rows were computed from: the state of their source, what was read by piece, and when."""

    began: int
    source: str
    reads: tuple[Read, ...]


def _computed(
    workspace: Workspace, view: View, interval: Interval
) -> tuple[pl.DataFrame, _CameFrom]:
    """Compute an interval's rows, and digest the very rows that they are computed from."""
    began, source = workspace.clock(), ViewSource(view, workspace.config.sources)
    raw = [source.scan(interval)]
    pieces = cut(interval, first=first_known(raw[0]), settle=view.settle)
    came_from = _CameFrom(began=began, source=source.still(), reads=fingerprint(raw[0], pieces))
    # Handed over: what is computed from them may let go of raw rows while it computes.
    return computed(view, raw.pop()), came_from


def finish(workspace: Workspace, view: View, table: Table) -> None:
    """Finish what died of a table's runs: serve what was committed, fence off what was not.

    Raises:
        Conflict: a run is on, which does so itself.
    """
    if any(one.state in ("writing", "committed") for one in workspace.ledger.runs(table.id)):
        with leased(workspace, table, secrets.token_hex(16), why=f"finish {view.version}"):
            finish_pending(workspace, view, table)


def refuse_collected(workspace: Workspace, view: View, table: Table) -> None:
    """Stop before a table is written that was given up between choosing and leasing it.

    Raises:
        Conflict: it was.
    """
    if table not in workspace.ledger.tables():
        raise Conflict(
            f"{view.name}: table {table.id} was collected meanwhile; run it again to make another"
        )


def refuse_lost(workspace: Workspace, view: View, table: Table) -> None:
    """Stop before what is left of a table, less than the ledger vouches for, is taken for it.

    Raises:
        CorruptData: its folder, or the newest of its log, is gone.
    """
    versions = (run.delta_version for run in workspace.ledger.runs(table.id))
    known = max((version for version in versions if version is not None), default=None)
    if known is None:
        return
    try:
        lost = workspace.offline.version(view, table) < known
    except NotMaterialized as error:
        raise damaged(view, f"table {table.id} lost its folder or log") from error
    if lost:
        raise damaged(view, f"table {table.id} lost the newest of its log")


def reach_back(
    workspace: Workspace, view: View, table: Table | None, interval: Interval
) -> Interval:
    """Let an interval reach back for ever if neither table nor source knows anything older.

    The source alone cannot say so: it may have let go of rows that the table still holds.
    """
    covered = workspace.ledger.covered(table.id) if table else ()
    held = any(one.start < interval.start for one in covered)
    if held or interval.start <= BEGINNING:
        return interval
    rows, _ = extent(view, workspace.config.sources, interval.start)
    if rows:
        return interval
    return Interval(start=BEGINNING, end=interval.end)


def first_table(workspace: Workspace, view: View, end: int) -> Table:
    """Give a version's table, made for its source's rows known by a moment if there is none.

    Of two jobs that find none, both write to the one that is made first.

    Raises:
        Conflict: as `new_table` says.
    """
    fresh = workspace.ledger.next_table(view.data_id)
    return workspace.table(view) or new_table(workspace, view, end, fresh)


def new_table(workspace: Workspace, view: View, end: int, fresh: Table | None = None) -> Table:
    """Record a new generation of a version's table, sized by its source's rows known by a moment.

    That is `fresh`, or if another process recorded it meanwhile, what stands in its place.

    Raises:
        Conflict: Redis holds rows of another registry under the table's id.
    """
    rows, span = extent(view, workspace.config.sources, end)
    fresh = replace(
        fresh or workspace.ledger.next_table(view.data_id),
        buckets=buckets_for(view, rows),
        period=period_for(view, rows, span),
    )
    _refuse_foreign(workspace, view, fresh)
    return workspace.ledger.add_table(fresh, now=workspace.clock())


def _refuse_foreign(workspace: Workspace, view: View, fresh: Table) -> None:
    """Refuse to mix rows with those of another registry, which this ledger could never repair.

    A Redis that cannot be asked now holds up nothing that is done offline.
    """
    online, marked = workspace.online(), False
    with suppress(Unavailable):
        marked = online.is_marked(fresh.id)
    if marked:
        raise Conflict(
            f"{view.name}: Redis at {online.where} already holds table {fresh.id} of project "
            f"'{online.project}', which this registry never wrote; give the project another name, "
            "or FEATURESTORE_REDIS_URL a database of its own"
        )


def _commit(
    workspace: Workspace,
    view: View,
    table: Table,
    interval: Interval,
    run_id: str,
    report: Report,
    hold: Callable[[], None],
) -> Run:
    """Compute an interval's rows into the table; nothing of them is kept here afterwards."""
    rows, came_from = _computed(workspace, view, interval)
    report(view.name, "writing", rows.height)
    base = workspace.offline.version(view, table)
    before = stored_rows(workspace, view, table, version=base, known=interval)
    rows, changed = revise(view, before, rows)
    run = Run(
        id=run_id,
        table_id=table.id,
        view=view.name,
        version=view.id,
        interval=interval,
        source=came_from.source,
        rows=rows.height,
        base_version=base,
        delta_version=None,
        state="writing",
        started=came_from.began,
    )
    hold()
    workspace.ledger.start_run(run, came_from.reads)
    version: int = base
    files: tuple[DataFile, ...] = ()
    if changed is not None:
        touched = rows.filter(inside(pl.col(KNOWN), changed))
        commit = workspace.offline.replace(view, table, changed, touched, base=base, run=run_id)
        version = commit.version
        files = (*commit.files, workspace.offline.log_file(view, table, version))
    workspace.ledger.commit_run(run, version, files)
    return replace(run, state="committed", delta_version=version)


def finish_pending(workspace: Workspace, view: View, table: Table) -> None:
    """Finish what died: serve what was committed, and fence off what was not."""
    for run in workspace.ledger.runs(table.id):
        if run.state == "writing":
            newest = workspace.offline.version(view, table)
            if newest > run.base_version and workspace.offline.last_run(view, table) == run.id:
                files = workspace.offline.added_files(view, table, newest)
                log = workspace.offline.log_file(view, table, newest)
                workspace.ledger.commit_run(run, newest, (*files, log))
                serve_run(
                    workspace, view, table, replace(run, state="committed", delta_version=newest)
                )
            else:
                if newest == run.base_version:
                    workspace.offline.fence(view, table, base=newest)
                workspace.ledger.end_run(run, "abandoned", now=workspace.clock())
        elif run.state == "committed":
            serve_run(workspace, view, table, run)
