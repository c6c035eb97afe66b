"""Materialization: an interval of a view's source into its offline table, then into Redis.

A run announces itself in the ledger (`writing`), commits the interval offline (`committed`) and
brings Redis in line (`served`). Whichever step a kill interrupts, the next run of the table finds
it in the ledger and finishes it first.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.jobs.compute import CANONICAL, canonical, feature_rows
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.fingerprint import digest
from featurestore.model.time import (
    BEGINNING,
    BUCKET,
    CREATED,
    EVENT,
    REVISION,
    Interval,
    show,
    watermark,
)
from featurestore.storage.keys import bucket_of, canonical_keys
from featurestore.storage.ledger import Run
from featurestore.storage.rows import HEADER_BYTES, RowLayout, row_columns
from featurestore.storage.sources import rows_known_by

LEASE = 600_000_000
"""How long a lease holds without renewal, microseconds."""
MARGIN = 86_400_000
"""How long Redis keeps a row beyond the ttl that needs it, milliseconds."""
ROWS_PER_BUCKET = 4_000_000

Report = Callable[[str, str, int], None]
"""Called with (view, stage, rows) as a run moves on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did: `changed` is False if the table already said the same."""

    view: str
    version: str
    table: str
    interval: Interval
    rows: int
    served: int
    repaired: int
    changed: bool


def materialize(
    workspace: Workspace,
    start: int,
    end: int,
    *,
    views: Sequence[str] = (),
    report: Report | None = None,
) -> tuple[Outcome, ...]:
    """Materialize the rows known in [start, end] (UTC microseconds, both included).

    Raises:
        InvalidRequest: end is before start, or in the future.
        SourceError, Conflict, Unavailable: as the stores say; what was committed stays.
    """
    if end < start:
        raise InvalidRequest(
            f"materialize: end {show(end)} is before start {show(start)}; swap the two"
        )
    _refuse_future(workspace, end)
    return tuple(
        _one(workspace, view, Interval(start=start - 1, end=end), report or _silent)
        for view in _chosen(workspace, views)
    )


def materialize_incremental(
    workspace: Workspace, end: int, *, views: Sequence[str] = (), report: Report | None = None
) -> tuple[Outcome, ...]:
    """Materialize from each view's watermark, less its settle span, to `end` (UTC microseconds).

    A view that was never materialized starts at the beginning of its source; one whose watermark is
    at or past `end` is left as it is.
    """
    _refuse_future(workspace, end)
    outcomes = []
    for view in _chosen(workspace, views):
        table = workspace.table(view)
        done = watermark(workspace.ledger.covered(table.id)) if table else None
        start = BEGINNING if done is None else max(BEGINNING, done - view.settle)
        if done is not None and done > end:
            continue
        outcomes.append(
            _one(workspace, view, Interval(start=min(start, end - 1), end=end), report or _silent)
        )
    return tuple(outcomes)


def _silent(view: str, stage: str, rows: int) -> None:
    """Report nothing."""


def _refuse_future(workspace: Workspace, end: int) -> None:
    now = workspace.clock()
    if end > now:
        raise InvalidRequest(
            f"materialize: end {show(end)} is in the future (it is {show(now)}); rows that are not "
            "known yet cannot be complete"
        )


def _chosen(workspace: Workspace, names: Sequence[str]) -> list[View]:
    if names:
        chosen = [workspace.view(name) for name in names]
        for view in chosen:
            if view.kind != "batch":
                raise InvalidRequest(
                    f"{view.name}: is computed at request time; there is nothing to materialize"
                )
        return chosen
    return [view for view in workspace.project().views if view.kind == "batch"]


@contextmanager
def _leased(workspace: Workspace, table: Table, owner: str) -> Iterator[Callable[[], None]]:
    name = f"table {table.id}"

    def hold() -> None:
        now = workspace.clock()
        workspace.ledger.lease(name, owner, now=now, until=now + LEASE)

    hold()
    try:
        yield hold
    finally:
        workspace.ledger.release_lease(name, owner)


def _one(workspace: Workspace, view: View, interval: Interval, report: Report) -> Outcome:
    run_id = secrets.token_hex(16)
    report(view.name, "reading", 0)
    if interval.start > BEGINNING and not rows_known_by(
        view, workspace.config.root, interval.start
    ):
        interval = Interval(start=BEGINNING, end=interval.end)
    rows = feature_rows(view, workspace.config.root, interval)
    table = _table(workspace, view, rows.height)
    with _leased(workspace, table, run_id) as hold:
        _finish_pending(workspace, view, table)
        report(view.name, "writing", rows.height)
        run, changed = _commit(workspace, view, table, interval, rows, run_id, hold)
        report(view.name, "serving", rows.height)
        served, repaired = _serve(workspace, view, table, run)
    report(view.name, "done", rows.height)
    return Outcome(
        view=view.name,
        version=view.version,
        table=table.id,
        interval=interval,
        rows=rows.height,
        served=served,
        repaired=repaired,
        changed=changed,
    )


def _table(workspace: Workspace, view: View, rows: int) -> Table:
    table = workspace.table(view)
    if table is None:
        buckets = 1 << max(0, (rows // ROWS_PER_BUCKET).bit_length())
        fresh = Table(data_id=view.data_id, generation=0, buckets=buckets)
        table = workspace.ledger.add_table(fresh, now=workspace.clock())
    workspace.offline.create(view, table)
    return table


def _commit(
    workspace: Workspace,
    view: View,
    table: Table,
    interval: Interval,
    rows: pl.DataFrame,
    run_id: str,
    hold: Callable[[], None],
) -> tuple[Run, bool]:
    base = workspace.offline.version(view, table)
    before = _stored(workspace, view, table, version=base, known=interval)
    revised, same = _revise(view, before, rows)
    run = Run(
        id=run_id,
        table_id=table.id,
        view=view.name,
        version=view.id,
        interval=interval,
        source=_source_state(view, rows),
        rows=rows.height,
        base_version=base,
        delta_version=None,
        state="writing",
        started=workspace.clock(),
    )
    hold()
    workspace.ledger.start_run(run)
    if same:
        workspace.ledger.commit_run(run, base, ())
        return _at(run, base), False
    buckets = bucket_of(revised, view.join_keys, table.buckets)
    commit = workspace.offline.replace(
        view, table, interval, revised.with_columns(buckets.alias(BUCKET)), base=base, run=run_id
    )
    workspace.ledger.commit_run(run, commit.version, commit.files)
    return _at(run, commit.version), True


def _at(run: Run, version: int) -> Run:
    return Run(
        id=run.id,
        table_id=run.table_id,
        view=run.view,
        version=run.version,
        interval=run.interval,
        source=run.source,
        rows=run.rows,
        base_version=run.base_version,
        delta_version=version,
        state="committed",
        started=run.started,
    )


def _source_state(view: View, rows: pl.DataFrame) -> str:
    packed = canonical(view, rows)
    return digest("rows", rows.height, b"".join(packed.to_list()))


def _stored(
    workspace: Workspace,
    view: View,
    table: Table,
    *,
    version: int | None,
    known: Interval | None = None,
) -> pl.DataFrame:
    return workspace.offline.rows(
        view, table, version=version, known=known, checksums=workspace.ledger.checksums(table.id)
    )


def _revise(view: View, before: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """Give the rows their revisions, and say whether they are what the table holds already.

    A row that stood in the table with the same bytes keeps its revision; one whose values moved
    under the same key and times gets the next.
    """
    identity = [*(k.name for k in view.join_keys), EVENT, CREATED]
    old = before.select(*identity, REVISION, canonical(view, before).alias("__before"))
    joined = rows.with_columns(canonical(view, rows)).join(
        old, on=identity, how="left", nulls_equal=True, maintain_order="left"
    )
    moved = (pl.col("__before") != pl.col(CANONICAL)).fill_null(value=False)
    known = pl.col("__before").is_not_null()
    same = before.height == rows.height and joined.select(known.all() & (~moved).all()).item()
    revised = joined.with_columns(
        (pl.col(REVISION).fill_null(0) + moved.cast(pl.UInt32)).cast(pl.UInt32).alias(REVISION)
    ).drop("__before", CANONICAL)
    return revised, bool(same)


def _finish_pending(workspace: Workspace, view: View, table: Table) -> None:
    for run in workspace.ledger.runs(table.id):
        if run.state == "writing":
            version = run.base_version + 1
            there = workspace.offline.version(view, table) >= version
            if there and workspace.offline.last_run(view, table) == run.id:
                files = workspace.offline.added_files(view, table, version)
                workspace.ledger.commit_run(run, version, files)
                _serve(workspace, view, table, _at(run, version))
            else:
                workspace.ledger.end_run(run, "abandoned", now=workspace.clock())
        elif run.state == "committed":
            _serve(workspace, view, table, run)


def _serve(workspace: Workspace, view: View, table: Table, run: Run) -> tuple[int, int]:
    """Bring Redis in line with a committed run; gives the rows written and the keys repaired."""
    online = workspace.online()
    repaired = 0
    if online.is_marked(table.id):
        after = _stored(workspace, view, table, version=run.delta_version, known=run.interval)
        before = _stored(workspace, view, table, version=run.base_version, known=run.interval)
        winners = latest(view, after)
        served = _put(workspace, view, table, winners)
        if run.delta_version != run.base_version:
            repaired = _repair(workspace, view, table, run, latest(view, before), winners)
    else:
        served = load_online(workspace, view, table)
    workspace.ledger.end_run(run, "served", now=workspace.clock())
    return served, repaired


def load_online(workspace: Workspace, view: View, table: Table) -> int:
    """Write every key's newest offline row to Redis and mark the table as there; gives the rows."""
    versions = [run.delta_version for run in workspace.ledger.runs(table.id)]
    version = max(v for v in versions if v is not None)
    winners = latest(view, _stored(workspace, view, table, version=version))
    served = _put(workspace, view, table, winners)
    workspace.online().mark(table.id)
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


def _put(workspace: Workspace, view: View, table: Table, winners: pl.DataFrame) -> int:
    bound = _longest_ttl(workspace, view, table)
    expire = None if bound is None else bound // 1000 + MARGIN
    keys = _keys(view, winners)
    return workspace.online().put(table.id, keys, pack(view, winners), expire_ms=expire)


def _longest_ttl(workspace: Workspace, view: View, table: Table) -> int | None:
    """Give the longest ttl that needs a table's rows: the view's own, or one that is served.

    Versions that differ in their ttl alone share a table.
    """
    registry = workspace.registry
    releases = map(registry.release, set(registry.aliases().values()))
    served = [live for release in releases for live in release.views]
    ttls = [live.view.ttl for live in served if live.table == table] + [view.ttl]
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
    table_now = _stored(workspace, view, table, version=run.delta_version)
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
