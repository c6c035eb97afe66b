"""The commands that work on a repo's registry: each calls one job and renders what it did."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from featurestore.cli import plans, render, terminal, values
from featurestore.cli.typed import moment
from featurestore.errors import NotFound
from featurestore.jobs import apply as applying
from featurestore.jobs import backfill as backfilling
from featurestore.jobs import materialize as materializing
from featurestore.jobs import plan as planning
from featurestore.jobs import rebuild as rebuilding
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import View
from featurestore.model.names import suggest
from featurestore.model.plan import Plan
from featurestore.model.states import live_in
from featurestore.model.time import micros, watermark

_Job = Callable[[Workspace, materializing.Report], tuple[materializing.Outcome, ...]]
_Look = Callable[[Sequence[materializing.Outcome]], None]


@contextmanager
def _workspace(repo: Path) -> Iterator[Workspace]:
    workspace = Workspace.open(repo)
    try:
        yield workspace
    finally:
        workspace.close()


def plan(repo: Path, *, alias: str, sample: bool, json: bool) -> Plan:
    """Show what applying would change and what an alias then needs; give the plan."""
    with _workspace(repo) as workspace, terminal.busy("reading the definitions"):
        found = planning.plan(workspace, alias)
        samples = planning.samples(workspace, found) if sample else None
    if json:
        terminal.as_json(values.plan(found.plan, samples))
    else:
        plans.plan(found.plan)
        plans.samples(samples or ())
    return found.plan


def apply(repo: Path, *, plan: str | None, alias: str, anyway: bool, json: bool) -> None:
    """Register the definitions."""
    with _workspace(repo) as workspace, terminal.busy("reading the definitions"):
        found = applying.apply(workspace, plan, alias=alias, anyway=anyway)
    if json:
        terminal.as_json(values.plan(found))
    else:
        plans.plan(found, applied=True)


def materialize(repo: Path, start: str, end: str, *, views: Sequence[str], json: bool) -> None:
    """Materialize what became known in [start, end]."""
    first, last = micros(moment(start, "START")), micros(moment(end, "END"))

    def job(
        workspace: Workspace, report: materializing.Report
    ) -> tuple[materializing.Outcome, ...]:
        return materializing.materialize(workspace, first, last, views=views, report=report)

    _run(repo, job, render.outcomes, views=views, json=json)


def materialize_incremental(
    repo: Path, end: str | None, *, views: Sequence[str], json: bool
) -> None:
    """Materialize what became known since each view's watermark."""
    last = micros(datetime.now(UTC) if end is None else moment(end, "END"))

    def job(
        workspace: Workspace, report: materializing.Report
    ) -> tuple[materializing.Outcome, ...]:
        return materializing.materialize_incremental(workspace, last, views=views, report=report)

    _run(repo, job, render.outcomes, views=views, json=json)


def backfill(repo: Path, alias: str, *, views: Sequence[str], again: bool, json: bool) -> None:
    """Compute what is applied, over what the alias's live tables cover."""

    def job(
        workspace: Workspace, report: materializing.Report
    ) -> tuple[materializing.Outcome, ...]:
        return backfilling.backfill(workspace, alias, views=views, again=again, report=report)

    def look(found: Sequence[materializing.Outcome]) -> None:
        render.backfilled(found, alias)

    _run(repo, job, look, views=views, json=json)


def _run(repo: Path, job: _Job, look: _Look, *, views: Sequence[str], json: bool) -> None:
    with _workspace(repo) as workspace:
        stored = [view for view in workspace.project().views if view.kind == "batch"]
        with _progress(len(views or stored)) as report:
            found = job(workspace, report)
    if json:
        terminal.as_json([values.outcome(one) for one in found])
    else:
        look(found)


@contextmanager
def _progress(views: int) -> Iterator[materializing.Report]:
    bar = Progress(
        TextColumn("{task.description:<44}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total} views"),
        TimeElapsedColumn(),
        console=terminal.err,
        transient=True,
        disable=not terminal.err.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=views)

        def report(name: str, stage: str, rows: int) -> None:
            if stage == "done":
                bar.advance(task)
            else:
                text = f"{name}: {stage}" + (f" {rows:,} rows" if rows else "")
                bar.update(task, description=text)

        yield report


def list_(repo: Path, *, json: bool) -> None:
    """List the applied views and services."""
    with _workspace(repo) as workspace:
        project = workspace.project()
        marks = {v.name: _mark(workspace, v) for v in project.views if v.kind == "batch"}
        named = workspace.releases.aliases()
        releases = {alias: workspace.releases.release(n) for alias, n in named.items()}
    live = {view.name: live_in(view, releases) for view in project.views}
    if json:
        terminal.as_json(values.project(project, marks, live))
    else:
        render.project(project, marks, live)


def _mark(workspace: Workspace, view: View) -> int | None:
    table = workspace.table(view)
    return watermark(workspace.ledger.covered(table.id)) if table else None


def describe(repo: Path, name: str, *, json: bool) -> None:
    """Describe one applied view or service."""
    with _workspace(repo) as workspace:
        project = workspace.project()
        views = {v.name: v for v in project.views}
        services = {s.name: s for s in project.services}
        mark = _mark(workspace, views[name]) if name in views else None
    if name in views and json:
        terminal.as_json(values.view(views[name], mark))
    elif name in views:
        render.view(views[name], mark)
    elif name in services and json:
        terminal.as_json(values.service(services[name], views))
    elif name in services:
        render.service(services[name], views)
    else:
        known = suggest(name, [*views, *services])
        raise NotFound(f"{name}: no applied view or service has this name{known}")


def rebuild_online(repo: Path, *, json: bool) -> None:
    """Bring back what Redis lost."""
    with _workspace(repo) as workspace, terminal.busy("loading Redis from the offline tables"):
        found = rebuilding.rebuild_online(workspace)
    if json:
        terminal.as_json({"rows": found.rows, "aliases": found.aliases})
    else:
        render.rebuilt(found)
